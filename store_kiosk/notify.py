"""Telling the service manager how this process is, as sd_notify(3) does: one datagram each time.

A service manager that wants to be told names a socket in the environment: NOTIFY_SOCKET, and
WATCHDOG_USEC where it ends a process that says nothing for so long. Where nobody asks, nothing is
told. The protocol is a line or two, so no package is needed for it.
"""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Manager:
    """A service manager that listens."""

    address: str
    """Path of its socket; one that begins with ``@`` is in the abstract namespace."""
    watchdog_s: float | None
    """Seconds without a sign of life after which it ends this process; None: never."""

    def tell(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``.

        A manager that can't be told, since it is being restarted perhaps, is not an error of ours:
        it will miss the sign of life, and act.
        """
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)  # a full queue must not hold up who answers shoppers
            try:
                sender.sendto("\n".join(lines).encode(), address)
            except OSError:
                return


def find_manager(environment: Mapping[str, str] = os.environ) -> Manager | None:
    """The manager that started this process; None where none wants to be told."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    usec = environment.get("WATCHDOG_USEC", "")
    watched = for_us and usec.isdecimal() and int(usec) > 0
    return Manager(address, int(usec) / 1e6 if watched else None)


def status_line(text: str) -> str:
    """``STATUS=`` of one line: a line feed in it would be another assignment."""
    return "STATUS=" + " ".join(text.split())
