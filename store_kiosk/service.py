"""Serving the page: desk, app, guard and server put together."""

import faulthandler
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from c2rec.store_kiosk.api import PAGE, Api, Settings
from c2rec.store_kiosk.desk import Desk
from c2rec.store_kiosk.foreign import foreign_logs
from c2rec.store_kiosk.guard import Door, Guard
from c2rec.store_kiosk.logs import Logger
from c2rec.store_kiosk.meter import Meter, metrics_route
from c2rec.store_kiosk.notify import find_manager
from c2rec.store_kiosk.pictures import Pictures
from c2rec.store_kiosk.server import listen, make_server


@dataclass(frozen=True, slots=True)
class Options:
    """Where to listen, and to whom."""

    host: str
    port: int
    allowed_hosts: tuple[str, ...] = ()
    """Further names of this server, without a port."""
    token: str | None = None
    """None lets everybody in."""
    metrics_open: bool = False
    """Whether /metrics needs no token."""
    tls: ssl.SSLContext | None = None
    """None: plain HTTP."""


def run(
    desk: Desk,
    settings: Settings,
    options: Options,
    pictures: Path | None,
    ready: Callable[[str], None],
    *,
    log: Logger,
    meter: Meter,
    started: Callable[[uvicorn.Server], None] = lambda _: None,
) -> None:
    """Serve until a signal comes.

    Args:
        desk: what answers.
        settings: how the page behaves.
        options: where to listen, and to whom.
        pictures: folder of pictures, or None.
        ready: is told the address once the port is bound.
        log: is told each request.
        meter: counts requests and answers, and tells them at /metrics.
        started: is given the server, which ends when its ``should_exit`` is set.

    Raises:
        ServeError: the port can't be bound.
    """
    listener = listen(options.host, options.port)
    with listener:
        port: int = listener.getsockname()[1]
        name = f"[{options.host}]" if ":" in options.host else options.host
        names = {name, *options.allowed_hosts, "127.0.0.1", "localhost", "[::1]"}
        hosts = {f"{each.lower()}:{port}" for each in names}
        if port == (80 if options.tls is None else 443):  # which browsers leave out
            hosts |= {each.lower() for each in names}
        manager = find_manager()
        if manager is not None and sys.stderr is sys.__stderr__:
            faulthandler.enable()  # a watchdog's SIGABRT tells where it hung: lines of code alone
        api = Api(desk, settings, Pictures(pictures), answered=meter.answered, manager=manager)
        app = api.app()
        app.router.routes.append(metrics_route(meter))
        opened = frozenset(["/metrics"] if options.metrics_open else [])
        door = Door(frozenset(hosts), options.token, opened)
        locked = str(PAGE / "locked.html")
        guard = Guard(app, door, locked=locked, log=log, meter=meter)
        server = make_server(guard, options.tls)
        started(server)
        ready(f"{'http' if options.tls is None else 'https'}://{name}:{port}/")
        with foreign_logs(log, "uvicorn", "asyncio"):
            server.run([listener])
