"""A store whose page is served as a process, shoppers and a till at it, and what it costs them.

What shoppers do is counted as they do it, to be compared with what head office gets.
"""

import http.client
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from c2rec.runtime.home.disk import write_whole

BIN = Path(sys.executable).parent
TOKEN = "a-token-of-the-store-s-day"  # noqa: S105 - no secret
LIFETIME_S = 60
"""A session that is left alone ends after this: idle 10, warning 20, grace 30."""
K = 6

Happened: TypeAlias = tuple[str, str | None, tuple[str, ...]]
"""Kind, customer and items of an event."""

_ENGINE = """
import json, sys, time
from pathlib import Path
from c2rec.runtime.recommender import Recommender

home = Path(sys.argv[1])
engine = Recommender.open(home)
for line in sys.stdin:
    if engine.superseded:
        engine.close()
        engine = Recommender.open(home)
    asked = json.loads(line)
    started = time.perf_counter()
    engine.recommend(asked["customer"], basket=asked["basket"], k=asked["k"])
    print(1000 * (time.perf_counter() - started), flush=True)
"""


@dataclass(frozen=True)
class Timed:
    """One answer of the API."""

    route: str
    status: int
    ms: float


@dataclass
class Store:
    """A kiosk's home, and the process that serves its page."""

    home: Path
    shelf: Path
    log: Path
    pid: int = 0
    port: int = 0
    stock: tuple[int, frozenset[str]] = (0, frozenset())
    """How often the shelf was written, and what is sold out by it."""
    answers: list[Timed] = field(default_factory=list)
    happened: Counter[Happened] = field(default_factory=Counter)
    """What head office is to hear of."""
    releases: list[str] = field(default_factory=list)
    """Which answered each question."""
    wrong: list[str] = field(default_factory=list)
    """What should not have been."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, customer: str | None, items: tuple[str, ...]) -> None:
        """Count an event that was acknowledged."""
        with self._lock:
            self.happened[kind, customer, items] += 1

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the page until the block ends."""
        (self.home.parent / "token").write_text(TOKEN + "\n")
        (self.home.parent / "token").chmod(0o600)
        options = ["--token-file", str(self.home.parent / "token"), "--shelf", str(self.shelf)]
        options += ["--cards", "c[0-9]{6}", "--idle", "10", "--warning", "20", "--port", "0"]
        command = [str(BIN / "c2rec-kiosk"), "--home", str(self.home), "serve", *options]
        with self.log.open("w") as log:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        try:
            assert process.stdout is not None
            found = re.fullmatch(r"Serving http://127\.0\.0\.1:(\d+)/\n", process.stdout.readline())
            assert found is not None, self.log.read_text()
            self.pid, self.port = process.pid, int(found[1])
            yield
            assert process.poll() is None, "the server ended"
        finally:
            process.terminate()
            process.communicate()

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of the kiosk, as its timer or its till does."""
        command = [str(BIN / "c2rec-kiosk"), "--home", str(self.home), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    def write_shelf(self, items: Sequence[str], sold_out: Sequence[str]) -> None:
        """Put another stock in force, in one step as a till's export does."""
        none = frozenset(sold_out)
        lines = [
            f"{item},{9.9 + row % 90:.2f},{int(item not in none)}" for row, item in enumerate(items)
        ]
        self.stock = self.stock[0] + 1, frozenset()  # in between, nobody can tell
        write_whole(self.shelf, "\n".join(["item_id,price,stock", *lines, ""]).encode())
        self.stock = self.stock[0] + 1, none

    def memory(self) -> dict[str, float]:
        """MB that the server has: resident, and of these its own and no file's."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = dict(re.findall(r"(VmRSS|RssAnon):\s+(\d+) kB", text))
        return {name: int(kilobytes) * 1024 / 1e6 for name, kilobytes in found.items()}

    def handles(self) -> int:
        """Files and connections that the server has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


class Page:
    """A browser at the page: one connection, one shopper after the other.

    Args:
        store: where.
        chance: decides what shoppers do.
        scale: seconds of the test for one of the day.
        engine: is told of each question, to time it without the page.
    """

    def __init__(
        self,
        store: Store,
        chance: random.Random,
        scale: float,
        engine: "Engine | None" = None,
    ) -> None:
        self._store, self._chance, self._scale, self._engine = store, chance, scale, engine
        self._connection = http.client.HTTPConnection("127.0.0.1", store.port, timeout=30)
        self._session = ""
        self._customer: str | None = None
        self._basket: list[str] = []
        self._shown: tuple[str, ...] = ()
        self._dismissed = set[str]()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def visit(self, customers: Sequence[str], items: Sequence[str]) -> None:
        """A shopper comes, and some go without a word."""
        chance = self._chance
        self._customer, self._basket, self._shown, self._dismissed = None, [], (), set()
        self.ask("GET", "/api/data", None)
        self._session = self.ask("POST", "/api/sessions", {}, 201)["session"]
        self._recommend()
        if chance.random() < 0.8:
            self._scan(chance.choice(customers))
        for _ in range(chance.randrange(4)):
            self._scan(chance.choice(items))
        for _ in range(chance.randrange(4)):
            self._look_around()
        if self._basket and chance.random() < 0.5:
            lines = [{"item_id": item, "quantity": 2, "price": 9.9} for item in self._basket]
            self.ask("POST", f"{self._path()}/purchases", {"items": lines, "receipt": "1"}, 201)
            self._store.note("bought", self._customer, tuple(self._basket))
        if chance.random() < 0.85:
            self.ask("DELETE", self._path(), None, 204)

    def _look_around(self) -> None:
        """A tap, no interest, something out of the basket, or just still there."""
        chance, path = self._chance, self._path()
        what = chance.choice(["details", "details", "dismissals", "removals", "extensions"])
        if what == "extensions":
            self.ask("POST", f"{path}/extensions", {})
        elif what == "removals" and self._basket:
            item = self._basket.pop(chance.randrange(len(self._basket)))
            self.ask("POST", f"{path}/removals", {"item_id": item}, 204)
            self._recommend()
        elif self._shown:
            item = chance.choice(self._shown)
            if what == "details":
                self.ask("POST", f"{path}/details", {"item_id": item, "language": "de"})
                self._store.note("tapped", self._customer, (item,))
            else:
                self.ask("POST", f"{path}/dismissals", {"item_id": item}, 204)
                self._store.note("dismissed", self._customer, (item,))
                self._dismissed.add(item)
                self._recommend()
        self._wait(8)

    def _scan(self, code: str) -> None:
        told = self.ask("POST", f"{self._path()}/scans", {"code": code})
        if told["kind"] == "card":
            self._customer = code
        elif told["kind"] == "product" and code not in self._basket:
            self._basket.append(code)
        self._expect(told["kind"] != "unknown", f"{code} is unknown")
        self._recommend()
        self._wait(5)

    def _recommend(self) -> None:
        before, _ = self._store.stock
        told = self.ask("POST", f"{self._path()}/recommendations", {"k": K})
        now, sold_out = self._store.stock
        items = tuple(item["item_id"] for item in told["items"])
        if before == now:
            self._expect(not sold_out & {*items}, f"{sold_out & {*items}} is sold out")
        self._expect(len(items) == K, f"{len(items)} items, tier {told['tier']}")
        self._expect(not self._dismissed & {*items}, "what was dismissed is shown")
        expected = "personal" if self._customer else "basket" if self._basket else "store-popular"
        self._expect(told["tier"] == expected, f"tier {told['tier']} instead of {expected}")
        if items != self._shown:
            self._shown = items
            self._store.note("shown", self._customer, items)
        self._store.releases.append(told["release"])
        if self._engine is not None:
            self._engine.ask(self._customer, self._basket)

    def _expect(self, right: bool, otherwise: str) -> None:
        if not right:
            self._store.wrong.append(otherwise)

    def _path(self) -> str:
        return f"/api/sessions/{self._session}"

    def _wait(self, seconds: float) -> None:
        """A shopper takes so long on average."""
        time.sleep(min(self._chance.expovariate(1 / seconds), 5 * seconds) * self._scale)

    def ask(self, method: str, path: str, body: object, expected: int = 200) -> Any:
        """Ask, and time it; whatever isn't answered as expected is kept as wrong."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        data = None if body is None else json.dumps(body)
        if data is not None:
            headers["Content-Type"] = "application/json"
        started = time.perf_counter()
        try:
            self._connection.request(method, path, data, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._store.wrong.append(f"{method} {path}: {error!r}")
            raise
        took = 1000 * (time.perf_counter() - started)
        route = re.sub("/api/sessions/[^/]+", "/api/sessions/…", path)
        self._store.answers.append(Timed(f"{method} {route}", response.status, took))
        if response.status != expected:
            self._store.wrong.append(f"{method} {route}: {response.status} {content!r:.200}")
        return json.loads(content) if content else {}


class Engine:
    """The engine by itself, in a process of its own: the same questions at the same time.

    Args:
        home: of the kiosk.
        share: of the questions that it is asked.
    """

    def __init__(self, home: Path, share: float) -> None:
        self.ms: list[float] = []
        self._share, self._chance = share, random.Random(1)  # noqa: S311 - a draw to repeat
        self._lock = threading.Lock()
        command = [sys.executable, "-c", _ENGINE, str(home)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, customer: str | None, basket: Sequence[str]) -> None:
        """Time a question now and then, after the page has answered it."""
        with self._lock:
            if self._chance.random() < self._share:
                assert self._process.stdin is not None
                assert self._process.stdout is not None
                asked = {"customer": customer, "basket": list(basket), "k": K}
                self._process.stdin.write(json.dumps(asked) + "\n")
                self._process.stdin.flush()
                self.ms.append(float(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
        assert self._process.returncode == 0


@contextmanager
def repeating(work: Callable[[], None], every: float) -> Iterator[None]:
    """Do some work over and over in a thread, until the block ends.

    Args:
        work: what to do; what it raises is raised at the end of the block.
        every: seconds from the beginning of one to the next.
    """
    ended, errors = threading.Event(), list[BaseException]()

    def loop() -> None:
        try:
            while not ended.is_set():
                started = time.monotonic()
                work()
                ended.wait(max(0.0, started + every - time.monotonic()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    for error in errors:
        raise error
