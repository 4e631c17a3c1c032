"""What may be wrong with a kiosk, looked at without changing anything: ``c2rec-kiosk doctor``.

Each check gives a verdict, what was found, and where it isn't ok, what to do.
"""

import os
import shutil
import sqlite3
import stat
import subprocess
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from c2rec.runtime.errors import C2RecError, HomeError
from c2rec.runtime.events.bought_file import bought_path, check_file
from c2rec.runtime.events.outbox import QUOTA
from c2rec.runtime.events.outbox_file import has_wal_bug
from c2rec.runtime.home.clock import clock_trouble, reference_time
from c2rec.runtime.home.identity import find_identity, identity_path
from c2rec.runtime.home.settings import find_settings
from c2rec.runtime.home.state import State, find_floors, find_state, read_tables
from c2rec.runtime.release.whole import damaged_arms, whole_cache
from c2rec.store_kiosk.findings import Check, Finding, Found, Verdict
from c2rec.store_kiosk.machine_checks import MACHINE_CHECKS
from c2rec.store_kiosk.store_checks import STORE_CHECKS

_STALE = timedelta(days=7)
"""A kiosk that has not synced for longer is told of."""
_OLD_DATA_DAYS = 60
_LEAST_FREE = 256 << 20
_BACKLOG = 50_000
_NEARLY = 0.8
"""Of the outbox's room: from here on it will soon drop impressions."""


_EXPECTED = (
    C2RecError,
    ImportError,
    OSError,
    RuntimeError,  # numpy's, on a processor that it is not built for; and RecursionError
    sqlite3.Error,
    subprocess.SubprocessError,
    KeyError,
    TypeError,
    ValueError,
)


def diagnose(home: Path) -> list[Finding]:
    """Make all checks of a home; none of them raises."""
    findings = []
    for name, check in _CHECKS.items():
        try:
            findings += [Finding(name, *found) for found in check(home)]
        except _EXPECTED as error:
            fix = "look at what the message names"
            findings.append(Finding(name, "failure", str(error) or type(error).__name__, fix))
    return findings


def _home(home: Path) -> Found:
    if not home.is_dir():
        yield "failure", f"{home} is no folder", "enrol the kiosk: c2rec-kiosk enrol KIT"
    elif not os.access(home, os.W_OK | os.X_OK):
        yield (
            "failure",
            f"{home} can't be written by user {os.geteuid()}",
            f"give it to the user that the kiosk runs as: chown -R USER {home}",
        )
    else:
        yield "ok", f"{home} can be written", None


def _enrolment(home: Path) -> Found:
    from c2rec.runtime.sync.sync import (
        nobody_here,  # numpy: where it can't be loaded, the rest is told
    )

    identity, settings = find_identity(home), find_settings(home)
    if identity is None or settings is None:
        yield (
            "warning",
            "not enrolled: no sync, no events",
            "c2rec-kiosk enrol KIT --repository URL",
        )
        return
    state = find_state(home)
    if state is not None and (trouble := nobody_here(home, state, identity.store)):
        yield "warning", trouble, "c2rec-export keys kiosk --store STORE, and enrol with that kit"
    who = f"kiosk {identity.device} of store {identity.store}, ring {settings.ring}"
    yield "ok", f"{who}, from {_shown(settings.repository)}", None


def _shown(place: str) -> str:
    """An address without its name and password."""
    scheme, separator, rest = place.partition("://")
    return scheme + separator + rest.rpartition("@")[2] if separator else place


def _keys(home: Path) -> Found:
    path = identity_path(home)
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        mode = stat.filemode(status.st_mode)
        yield "failure", f"others can read the kiosk's keys: {path} is {mode}", f"chmod 600 {path}"
    else:
        yield "ok", f"{path} is its owner's alone", None


def _space(home: Path) -> Found:
    free = shutil.disk_usage(home).free
    largest = max((path.stat().st_size for path in (home / "gen").glob("*.db")), default=0)
    needed = max(_LEAST_FREE, 2 * largest)
    text = f"{free >> 20} MiB are free, a new release may need {needed >> 20} MiB"
    if free < needed:
        yield "warning", text, "free some space on this disk, or grow it"
    else:
        yield "ok", text, None


def _clock(home: Path) -> Found:
    floor = find_floors(home).get("time", 0)
    trouble = clock_trouble(datetime.now(UTC), floor)
    if trouble:
        yield "failure", trouble, "set the clock, and let it be set from the network: NTP"
    else:
        yield "ok", "the clock fits what head office signed last", None


def _sqlite(home: Path) -> Found:
    text = f"SQLite {sqlite3.sqlite_version}"
    if has_wal_bug():
        # state.db and releases have no write-ahead log; events.db has a lock that prevents it
        text += ": it has the WAL-reset bug, which can't come about here"
    yield "ok", text, None


def _release(home: Path) -> Found:
    state = find_state(home)
    if state is None:
        yield (
            "failure",
            "no release is installed",
            "c2rec-kiosk sync, or c2rec-kiosk install BUNDLE",
        )
        return
    for role, generation in (("active", state.active), ("previous", state.previous)):
        if generation is None:
            continue
        try:
            cache = whole_cache(home, generation, thorough=True)
        except HomeError as error:
            verdict: Verdict = "failure" if role == "active" else "warning"
            yield verdict, f"the {role} release is damaged: {error}", "c2rec-kiosk sync"
            continue
        data_to = str(cache.manifest_document()["data"]["to"])
        damaged = damaged_arms(home, cache, thorough=True)
        cache.close()
        for arm, why in damaged.items():
            text = f"arm {arm} of the {role} release is answered by the main model: {why}"
            yield "warning", text, "c2rec-kiosk sync"
        yield "ok", f"the {role} release {generation.release} is whole, every byte read", None
        if role == "active":
            yield from _age(data_to)
            yield from _trial(state)


def _age(data_to: str) -> Found:
    days = (datetime.now(UTC).date() - date.fromisoformat(data_to)).days
    if days > _OLD_DATA_DAYS:
        yield (
            "warning",
            f"the release knows what was bought up to {data_to}, {days} days ago",
            "sync; if there is nothing newer, head office trains and publishes again",
        )
    else:
        yield "ok", f"the release's data ends {days} days ago", None


def _trial(state: State) -> Found:
    if state.trial is not None and state.trial.starts:
        text = (
            f"release {state.active.release} is on trial, {state.trial.starts} starts of it came "
            "to nothing; after three, the previous one answers"
        )
        yield "warning", text, "look at the log of what starts it"


def _sync(home: Path) -> Found:
    rows = {row["what"]: row for row in read_tables(home, ("outcomes",)).get("outcomes", [])}
    if find_settings(home) is None:
        return
    if "good sync" not in rows:
        yield "warning", "no sync has succeeded yet", "c2rec-kiosk sync"
    else:
        at = datetime.strptime(rows["good sync"]["at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        if datetime.now(UTC) - at > _STALE:
            yield (
                "warning",
                f"the last good sync was at {rows['good sync']['at']}",
                "check the network and the timer that syncs: c2rec-kiosk sync",
            )
        else:
            yield "ok", f"the last good sync was at {rows['good sync']['at']}", None
    if "sync" in rows and not rows["sync"]["ok"]:
        yield "warning", f"the last sync failed: {rows['sync']['text']}", "c2rec-kiosk sync"


def _expiry(home: Path) -> Found:
    """When the repository's signatures expire, by what this kiosk has seen last."""
    import json

    path = home / "tuf" / "timestamp.json"
    try:
        text = json.loads(path.read_bytes())["signed"]["expires"]
    except FileNotFoundError:
        return
    expires = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if expires < reference_time(datetime.now(UTC), find_floors(home).get("time", 0)):
        yield (
            "warning",
            f"what this kiosk knows of the repository expired at {text}",
            "sync; if it is refused as stale, head office signs anew: c2rec-export resign",
        )
    else:
        yield "ok", f"the repository's signature is good until {text}", None


def _outbox(home: Path) -> Found:
    path = home / "events.db"
    if not path.exists():
        return
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
        (waiting,) = db.execute("SELECT count(*) FROM events").fetchone()
        (size,) = db.execute("SELECT bytes FROM outbox").fetchone()
        query = "SELECT count(*), coalesce(sum(count), 0) FROM batches WHERE state = 'dead'"
        letters, dead = db.execute(query).fetchone()
        (conflicts,) = db.execute("SELECT count(*) FROM conflicts").fetchone()
        failures, error = db.execute("SELECT failures, error FROM delivery").fetchone()
    text = f"{waiting:,} events wait to be sent, {size >> 20} of {QUOTA >> 20} MiB"
    send = "c2rec-kiosk queue --send"
    if size >= QUOTA:
        yield "failure", f"{text}: there is no more room, and events are lost", send
    elif waiting > _BACKLOG or size > _NEARLY * QUOTA:
        yield "warning", text, send
    else:
        yield "ok", text, None
    if letters:
        yield (
            "warning",
            f"head office refuses {dead:,} events in {letters} batches",
            "see why: c2rec-kiosk queue; then c2rec-kiosk queue --retry-dead --send",
        )
    if conflicts:
        yield (
            "warning",
            (
                f"other events lay under the name of {conflicts} batches: this disk was restored, "
                "or another kiosk is a copy of this one"
            ),
            "give each kiosk its own identity: c2rec-export keys kiosk",
        )
    if failures and waiting:
        yield "warning", f"{failures} attempts to send failed since the last success: {error}", send


def _bought(home: Path) -> Found:
    path = bought_path(home)
    if not path.exists():
        return
    again = "what is bought here will be recommended again"
    try:
        check_file(path)
    except OSError as error:
        yield "warning", f"{path} can't be used, {error.strerror}: {again}", "move it away"
        return
    if os.access(path, os.R_OK | os.W_OK):
        yield "ok", f"what is bought here is known at once, by {path}", None
    else:
        yield (
            "warning",
            f"{path} can't be written by user {os.geteuid()}: {again}",
            f"give it to the user that the kiosk runs as: chown USER {path}",
        )


def _erasure(home: Path) -> Found:
    from c2rec.runtime.erasure.erase import unfinished  # numpy, which this check alone needs

    if count := unfinished(home):
        yield (
            "failure",
            f"{count} erasures were begun and did not end: pieces of these customers are here",
            "run the same again for each: c2rec-kiosk erase CUSTOMER --receipt FILE",
        )
    else:
        yield "ok", "no erasure waits to be finished", None


_CHECKS: dict[str, Check] = {
    "home": _home,
    "enrolment": _enrolment,
    "keys": _keys,
    "space": _space,
    **MACHINE_CHECKS,
    "clock": _clock,
    "SQLite": _sqlite,
    "release": _release,
    **STORE_CHECKS,
    "sync": _sync,
    "signatures": _expiry,
    "events": _outbox,
    "bought": _bought,
    "erasure": _erasure,
}
