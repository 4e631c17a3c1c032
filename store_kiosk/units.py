"""Units of systemd for a kiosk: the page with its watchdog, and what syncs and sends by the clock.

Text is made here, and nothing is written. Every service may do what it needs and no more: see
systemd.exec(5), and ``systemd-analyze security`` for what is left.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from c2rec.runtime.errors import RequestError

SERVICE = "c2rec-kiosk.service"
SYNC, SEND = "c2rec-sync", "c2rec-send"
_HIDDEN = ("/tmp", "/var/tmp")  # noqa: S108 - refused, not used
_USER = re.compile("[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_HOMES = ("/home", "/root", "/run/user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the units are to do; making one checks every field.

    Raises:
        RequestError: a field can't be so.
    """

    command: tuple[str, ...]
    """What starts ``c2rec-kiosk``; first the absolute path of a program."""
    home: Path
    """The kiosk's folder, absolute."""
    serve: tuple[str, ...] = ()
    """Options of ``serve``; paths in them are absolute."""
    reads: tuple[Path, ...] = ()
    """Further paths that are read: Python's own, the shelf, pictures."""
    user: str = "c2rec"
    watchdog_s: int = 60
    """Seconds without an answer after which the page's server is started anew."""
    network: bool = False
    """Whether ``serve`` may reach further than this machine."""
    sends: bool = True
    """Whether events go anywhere."""
    events: Path | None = None
    """The folder that they go to, where it is one."""

    def __post_init__(self) -> None:
        further = self.reads if self.events is None else (*self.reads, self.events)
        for path in (self.home, Path(self.command[0]), *further):
            if not path.is_absolute():
                raise RequestError(f"{path} is no absolute path, which a service needs")
            if any(path.is_relative_to(hidden) for hidden in _HIDDEN):
                raise RequestError(
                    f"{path} lies in a folder for what is temporary, which a service has of its "
                    "own; allowed: another place, such as /var/lib/c2rec"
                )
        for text in (*self.command, str(self.home), *self.serve, self.user):
            if not text.isprintable():
                raise RequestError(f"{text!r:.90} has characters that no unit can hold")
        if not _USER.fullmatch(self.user):  # to systemd, an empty one is root
            raise RequestError(
                f"{self.user!r:.90} is no user; allowed: letters, digits, _ . and -, as in c2rec"
            )


def make_units(plan: Plan) -> dict[str, str]:
    """Make the units' text, by file name."""
    units = {SERVICE: _serve(plan), f"{SYNC}.service": _sync(plan), f"{SYNC}.timer": _SYNC_TIMER}
    if plan.sends:
        units |= {f"{SEND}.service": _send(plan), f"{SEND}.timer": _SEND_TIMER}
    return units


def to_enable(units: Mapping[str, str]) -> list[str]:
    """Which of the units an administrator enables: the others are started by these."""
    return [name for name, text in units.items() if "\n[Install]\n" in text]


def _serve(plan: Plan) -> str:
    lines = [
        "[Unit]",
        "Description=c2rec: recommendations for shoppers",
        "# a kiosk has nothing better to do than to try again",
        "StartLimitIntervalSec=0",
        f"RequiresMountsFor={_quoted(str(plan.home))}",
        "",
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_command(plan, 'serve', *plan.serve)}",
        "# a sign of life comes only after the kiosk has recommended something to itself",
        f"WatchdogSec={plan.watchdog_s}",
        "Restart=always",
        "RestartSec=1",
        "# every byte of a release is read before it is served",
        "TimeoutStartSec=300",
        "TimeoutStopSec=10",
        "Nice=-5",
        "OOMScoreAdjust=-500",
        *_network(plan),
        *_sandbox(plan),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return _text(lines)


def _network(plan: Plan) -> list[str]:
    if plan.network:
        return ["# it is reached from elsewhere, or looks visitors up: the network is open to it"]
    return ["IPAddressDeny=any", "IPAddressAllow=localhost"]


def _sync(plan: Plan) -> str:
    return _oneshot(plan, "take what head office publishes", 7200, "sync")


def _send(plan: Plan) -> str:
    arguments = ("queue", "--send", "--when-due", "--deadline", "300")
    return _oneshot(plan, "send events to head office", 600, *arguments, writes=plan.events)


def _oneshot(
    plan: Plan, what: str, timeout_s: int, *arguments: str, writes: Path | None = None
) -> str:
    lines = [
        "[Unit]",
        f"Description=c2rec: {what}",
        "Wants=network-online.target",
        "After=network-online.target",
        f"RequiresMountsFor={_quoted(str(plan.home))}",
        "# nothing to do before c2rec-kiosk enrol",
        f"ConditionPathExists={_value(str(plan.home / 'kiosk.toml'))}",
        "",
        "[Service]",
        "Type=oneshot",
        f"ExecStart={_command(plan, *arguments)}",
        f"TimeoutStartSec={timeout_s}",
        "# shoppers come first",
        "Nice=10",
        "IOSchedulingClass=idle",
        *([] if writes is None else [f"ReadWritePaths={_quoted(f'-{writes}')}"]),
        *_sandbox(plan),
    ]
    return _text(lines)


_SYNC_TIMER = """\
[Unit]
Description=c2rec: take what head office publishes, once an hour

[Timer]
OnBootSec=2min
OnUnitActiveSec=1h
# each kiosk at a time of its own, always the same
RandomizedDelaySec=1h
FixedRandomDelay=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""

_SEND_TIMER = """\
[Unit]
Description=c2rec: send events to head office, every quarter of an hour

[Timer]
OnBootSec=5min
OnUnitActiveSec=15min
RandomizedDelaySec=5min
FixedRandomDelay=true
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def _sandbox(plan: Plan) -> list[str]:
    """What a service is kept from."""
    needed = (plan.home, Path(plan.command[0]), *plan.reads)
    in_homes = any(path.is_relative_to(each) for path in needed for each in _HOMES)
    return [
        f"User={_value(plan.user)}",
        "UMask=0077",
        f"ReadWritePaths={_quoted(str(plan.home))}",
        "ProtectSystem=strict",
        f"ProtectHome={'read-only' if in_homes else 'yes'}",
        *_SANDBOX,
    ]


_SANDBOX = """\
PrivateTmp=yes
PrivateDevices=yes
DevicePolicy=closed
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
# a core would hold what shoppers have scanned
LimitCORE=0""".splitlines()


def _command(plan: Plan, *arguments: str) -> str:
    program, *rest = plan.command
    given = [*rest, "--home", str(plan.home), *arguments]
    # in arguments alone a dollar names a variable
    return " ".join([_quoted(program), *(_quoted(each).replace("$", "$$") for each in given)])


def _quoted(text: str) -> str:
    """Text as one word of a unit: systemd.syntax(7), with its specifiers taken literally."""
    if text and not set(text) & set("\"'\\ ;$"):
        return text.replace("%", "%%")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _value(text: str) -> str:
    """Text that is a whole value: nothing in it is special but specifiers."""
    return text.replace("%", "%%")


def _text(lines: list[str]) -> str:
    return "\n".join(["# made by: c2rec-kiosk install --systemd", *lines, ""])


def next_steps(plan: Plan, folder: Path, units: Mapping[str, str]) -> list[str]:
    """What an administrator runs next, as lines for a shell."""
    home, user, program = (shlex.quote(x) for x in (str(plan.home), plan.user, plan.command[0]))
    link = (
        []
        if folder == Path("/etc/systemd/system")
        else [f"systemctl link {' '.join(shlex.quote(str(folder / name)) for name in units)}"]
    )
    return [
        f"id {user} >/dev/null 2>&1 || useradd --system --no-create-home --home-dir {home} {user}",
        f"install -d -o {user} {home} && chown -R {user}: {home}",
        *link,
        "systemctl daemon-reload",
        f"systemctl enable --now --no-block {' '.join(to_enable(units))}",
        f"runuser -u {user} -- {program} --home {home} doctor",
    ]
