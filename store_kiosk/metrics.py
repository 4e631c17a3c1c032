"""A home's state as Prometheus metrics, read without changing anything.

Moments are told as seconds since 1970, as Prometheus' conventions have it: an age is
``time() - …``. Labels are the kiosk's own names, kinds and states; no customer, item or token is
one. A part that can't be read is left out, and ``c2rec_part_readable`` says so.
"""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from c2rec.runtime.errors import C2RecError
from c2rec.runtime.events.waiting import peek
from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.home.identity import find_identity
from c2rec.runtime.home.settings import find_settings
from c2rec.runtime.home.state import State, find_state, read_tables
from c2rec.runtime.release.cache import Cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ROLES = ("root", "timestamp", "snapshot", "targets")
"""Signed metadata whose expiry is told: the fixed ones, which every repository has."""

_DAMAGE = (C2RecError, OSError, sqlite3.Error, KeyError, TypeError, ValueError, RecursionError)
"""What is raised where a part of a home isn't as it should be; the last by JSON too deep."""

disable_created_metrics()  # type: ignore[no-untyped-call] # when a counter began is no help


class HomeCollector(Collector):
    """Tells a home's state, as it is when it is asked.

    Args:
        home: the kiosk's folder.
        doctor: whether its verdicts are told too; it reads every byte of the releases.
    """

    def __init__(self, home: Path, *, doctor: bool = False) -> None:
        self._home = home
        self._parts = _PARTS | ({"doctor": _doctor} if doctor else {})

    def describe(self) -> Iterable[Metric]:
        """Nothing: what is told depends on what is there."""
        return []

    def collect(self) -> Iterable[Metric]:
        """All metrics."""
        readable = GaugeMetricFamily(
            "c2rec_part_readable",
            "Whether a part of the home could be read; 0 leaves its metrics out.",
            labels=["part"],
        )
        for name, part in self._parts.items():
            try:
                found = list(part(self._home))
            except _DAMAGE:
                readable.add_metric([name], 0)
            else:
                readable.add_metric([name], 1)
                yield from found
        yield readable


def text_of(collector: CollectorRegistry | HomeCollector) -> str:
    """Metrics in Prometheus' text format."""
    if isinstance(collector, HomeCollector):
        registry = CollectorRegistry()
        registry.register(collector)
        return generate_latest(registry).decode()
    return generate_latest(collector).decode()


def _gauge(name: str, text: str, value: float, labels: Mapping[str, str] | None = None) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[*labels] if labels else [])
    family.add_metric([*labels.values()] if labels else [], value)
    return family


def _by_kind(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=["kind"])
    for kind, number in counts.items():
        family.add_metric([kind], number)
    return family


def _kiosk(home: Path) -> Iterator[Metric]:
    identity, settings = find_identity(home), find_settings(home)
    labels = {
        "version": version("c2rec"),
        "store": identity.store if identity else "",
        "device": identity.device if identity else "",
        "ring": settings.ring if settings else "",
    }
    yield _gauge("c2rec_kiosk_info", "Who this kiosk is; empty where it isn't enrolled.", 1, labels)


def _disk(home: Path) -> Iterator[Metric]:
    usage = shutil.disk_usage(home)
    yield _gauge("c2rec_disk_free_bytes", "Free on the home's disk.", usage.free)
    yield _gauge("c2rec_disk_size_bytes", "Size of the home's disk.", usage.total)
    taken = sum(path.stat().st_size for path in home.rglob("*") if path.is_file())
    yield _gauge("c2rec_home_size_bytes", "What the home's files take.", taken)


def _release(home: Path) -> Iterator[Metric]:
    state = find_state(home)
    yield _gauge("c2rec_release_installed", "Whether any release is.", float(state is not None))
    if state is None:
        return
    active = state.active
    yield from _trial(state)
    yield _gauge(
        "c2rec_release_installed_timestamp_seconds",
        "When the active release was installed.",
        _seconds(active.installed_at),
    )
    if active.seq is not None:
        yield _gauge("c2rec_release_seq", "Number of the active release.", active.seq)
    cache = Cache(generation_path(home, active.name))
    try:
        manifest, here = cache.manifest_document(), cache.count_customers()
    finally:
        cache.close()
    labels = {
        "release": active.release,
        "previous": state.previous.release if state.previous else "",
        "encoder": str(manifest["encoder"]),
    }
    yield _gauge("c2rec_release_info", "The active release.", 1, labels)
    ended = datetime.combine(date.fromisoformat(manifest["data"]["to"]), datetime.min.time(), UTC)
    yield _gauge(
        "c2rec_release_data_end_timestamp_seconds",
        "Beginning of the last day whose purchases the release knows.",
        ended.timestamp(),
    )
    items = int(manifest["counts"]["items"])
    yield _gauge("c2rec_release_items", "Items of the active release.", items)
    yield _gauge("c2rec_release_customers", "Customers whom this kiosk knows.", here)


def _trial(state: State) -> Iterator[Metric]:
    trial = state.trial
    yield _gauge(
        "c2rec_release_on_trial",
        "Whether the active release has not proved itself yet.",
        float(trial is not None),
    )
    yield _gauge(
        "c2rec_release_failed_starts",
        "Starts of a release on trial that came to nothing; after three it gives way.",
        trial.starts if trial else 0,
    )


def _sync(home: Path) -> Iterator[Metric]:
    tables = read_tables(home, ("outcomes", "bad"))
    rows = {row["what"]: row for row in tables.get("outcomes", [])}
    yield _gauge(
        "c2rec_releases_given_up", "Releases not to be taken again.", len(tables.get("bad", []))
    )
    if (last := rows.get("sync")) is not None:
        yield _gauge(
            "c2rec_last_sync_timestamp_seconds", "When the last sync ended.", _seconds(last["at"])
        )
        yield _gauge("c2rec_last_sync_success", "Whether the last sync went well.", last["ok"])
    if (good := rows.get("good sync")) is not None:
        yield _gauge(
            "c2rec_last_good_sync_timestamp_seconds",
            "When the last sync that went well ended.",
            _seconds(good["at"]),
        )


def _signatures(home: Path) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "c2rec_metadata_expiry_timestamp_seconds",
        "When signed metadata of the repository expires, by what this kiosk has seen last.",
        labels=["role"],
    )
    for role in _ROLES:
        path = home / "tuf" / f"{role}.json"
        if path.is_file():
            expires = str(json.loads(path.read_bytes())["signed"]["expires"])
            family.add_metric([role], _seconds(expires))
    if family.samples:
        yield family


def _scores(home: Path) -> Iterator[Metric]:
    for row in read_tables(home, ("scores",)).get("scores", []):
        yield _gauge("c2rec_online_scores_seq", "Number of the online scores.", row["seq"])
        yield _gauge(
            "c2rec_online_scores_timestamp_seconds",
            "Of when the online scores are.",
            _seconds(row["as_of"]),
        )


def _events(home: Path) -> Iterator[Metric]:
    waiting = peek(home)
    if waiting is None:
        return
    family = GaugeMetricFamily(
        "c2rec_events_waiting", "Events that wait for head office.", labels=["kind", "state"]
    )
    for kind, states in waiting.kinds.items():
        for state, number in states.items():
            family.add_metric([kind, state], number)
    yield family
    yield _gauge("c2rec_events_waiting_bytes", "What waits, in bytes.", waiting.bytes)
    yield _gauge("c2rec_events_quota_bytes", "What may wait.", waiting.quota)
    if waiting.oldest is not None:
        text = "When the oldest event that waits was recorded."
        yield _gauge("c2rec_events_oldest_timestamp_seconds", text, waiting.oldest / 1000)
    if waiting.sent_at is not None:
        text = "When events arrived at head office last."
        yield _gauge("c2rec_events_last_sent_timestamp_seconds", text, waiting.sent_at)
    text = "Attempts to send that failed since the last success."
    yield _gauge("c2rec_events_send_failures", text, waiting.failures)
    yield _gauge("c2rec_dead_letters", "Batches refused for good.", len(waiting.dead))
    text = "Batches under whose name another content lay: a restored disk, or a copied kiosk."
    yield _gauge("c2rec_event_conflicts", text, len(waiting.conflicts))
    for name, text, number in (
        ("recorded", "Events recorded.", waiting.recorded),
        ("sent", "Events that arrived.", waiting.sent),
        ("recovered", "Events taken out of a damaged file.", waiting.recovered),
    ):
        yield CounterMetricFamily(f"c2rec_events_{name}_total", text, value=number)
    text = "Events dropped for want of room."
    yield _by_kind("c2rec_events_dropped_total", text, waiting.dropped)
    text = "Events not recorded for want of room."
    yield _by_kind("c2rec_events_refused_total", text, waiting.refused)


def _doctor(home: Path) -> Iterator[Metric]:
    from c2rec.store_kiosk.doctor import diagnose

    family = GaugeMetricFamily(
        "c2rec_doctor_findings", "What the doctor finds.", labels=["check", "verdict"]
    )
    counts: dict[tuple[str, str], int] = {}
    for finding in diagnose(home):
        for verdict in ("ok", "warning", "failure"):
            key = (finding.check, verdict)
            counts[key] = counts.get(key, 0) + (finding.verdict == verdict)
    for key, number in counts.items():
        family.add_metric(key, number)
    yield family


def _seconds(text: str) -> float:
    """A moment as the state, and signed metadata, have it, in seconds since 1970."""
    return datetime.fromisoformat(text).astimezone(UTC).timestamp()


_PARTS: dict[str, Callable[[Path], Iterator[Metric]]] = {
    "kiosk": _kiosk,
    "disk": _disk,
    "release": _release,
    "sync": _sync,
    "signatures": _signatures,
    "scores": _scores,
    "events": _events,
}
