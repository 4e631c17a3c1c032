"""Every error that this project raises on purpose, in one tree.

::

    C2RecError
    ├── DataError          transactions, items, rules or a shelf that can't be used
    ├── RunError           a training run that can't be read, resumed or evaluated
    ├── ReleaseError       a bundle that is damaged, incomplete or tampered with
    │   └── TooNewError          it is of a format that this version doesn't know
    ├── HomeError          a kiosk's home folder or SQLite file that can't be used
    │   └── NotInstalledError   no release has been installed there yet
    ├── RequestError       a request that can't be answered as asked, such as k = 0
    │   └── UnknownColumnError  it names a column that the items don't have
    ├── ServeError         a port, or a token's file, that the page's server can't use
    ├── SyncError          a repository from which nothing could be taken
    │   ├── NetworkError      it can't be reached, is too slow, or something else answers
    │   └── TrustError        what it says is not signed, expired, or older than what is known
    ├── IdentityError      a kiosk's keys or settings are missing or wrong
    ├── EventError         an event or a batch of events that can't be used
    ├── PublishError       a repository or keys at head office that can't be used
    └── MissingExtraError  a command whose optional dependencies are not installed

A message says what was wrong, the value got and what is allowed, and where an operator reads
it, the command to run next. The library raises; only the command line prints and exits.
"""


class C2RecError(Exception):
    """Base of the tree: catching it catches every error raised on purpose."""


class DataError(C2RecError):
    """A file of data or rules can't be used; the message names file, place and value."""


class RunError(C2RecError):
    """A training run can't be read, resumed or evaluated."""


class ReleaseError(C2RecError):
    """A bundle is damaged, incomplete, tampered with, or of a newer format."""


class TooNewError(ReleaseError):
    """A release is of a newer format; an upgrade of c2rec can read it."""


class HomeError(C2RecError):
    """A kiosk's home folder, or an SQLite file in it, can't be read or written."""


class NotInstalledError(HomeError):
    """No release has been installed in this home folder."""


class RequestError(C2RecError):
    """A request can't be answered as asked."""


class UnknownColumnError(RequestError):
    """A request names a column that the items of the release don't have."""


class ServeError(C2RecError):
    """A port, or a file of a token, that the page's server can't use."""


class SyncError(C2RecError):
    """Nothing could be taken from a repository; the release that is active serves on."""


class NetworkError(SyncError):
    """The repository can't be reached, is too slow, or something else answers in its place."""


class TrustError(SyncError):
    """What a repository says is refused: not signed, expired, or older than what is known."""


class IdentityError(C2RecError):
    """A kiosk's keys or settings are missing or can't be used."""


class EventError(C2RecError):
    """An event, or a batch of events, can't be used."""


class PublishError(C2RecError):
    """A repository, or keys, can't be used at head office."""


class MissingExtraError(C2RecError):
    """A command needs an extra that is not installed."""
