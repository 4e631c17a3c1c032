"""Reading what a command showed on a terminal."""

import os


def all_shown(outside: int) -> str:
    """What was written to a pseudo terminal whose inside is closed; closes the outside.

    It hands over as much as it has by now, and ends with an error.
    """
    shown = b""
    while True:
        try:
            piece = os.read(outside, 10_000)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(outside)
    return shown.decode()
