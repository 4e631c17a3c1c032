"""Every error that this project raises on purpose, in one tree.

::

    C2RecError
    ├── DataError          transactions or items that can't be used
    ├── RunError           a training run that can't be read, resumed or evaluated
    ├── ReleaseError       a bundle that is damaged, incomplete, tampered with or too new
    ├── HomeError          a kiosk's home folder or SQLite file that can't be used
    │   └── NotInstalledError   no release has been installed there yet
    ├── RequestError       a request that can't be answered as asked, such as k = 0
    └── MissingExtraError  a command whose optional dependencies are not installed

A message says what was wrong, the value got and what is allowed, and where an operator reads
it, the command to run next. The library raises; only the command line prints and exits.
"""


class C2RecError(Exception):
    """Base of the tree: catching it catches every error raised on purpose."""


class DataError(C2RecError):
    """Transactions or items can't be used; the message names file, row, column and value."""


class RunError(C2RecError):
    """A training run can't be read, resumed or evaluated."""


class ReleaseError(C2RecError):
    """A bundle is damaged, incomplete, tampered with, or of a newer format."""


class HomeError(C2RecError):
    """A kiosk's home folder, or an SQLite file in it, can't be read or written."""


class NotInstalledError(HomeError):
    """No release has been installed in this home folder."""


class RequestError(C2RecError):
    """A request can't be answered as asked."""


class MissingExtraError(C2RecError):
    """A command needs an extra that is not installed."""
