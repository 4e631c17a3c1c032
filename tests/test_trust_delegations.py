"""Who may sign what, who is asked first, and where metadata of oddly named roles lands."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest

from c2rec.runtime.errors import NetworkError, TrustError
from tests.faults.server import Server, serve
from tests.tuf_repository import TOP, Reader, TufRepository, in_days, make_reader


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def server(repository: TufRepository) -> Iterator[Server]:
    with serve(repository.folder) as server:
        yield server


@pytest.fixture
def reader(repository: TufRepository, server: Server, tmp_path: Path) -> Reader:
    return make_reader(repository, tmp_path / "home", url=server.url)


def delegated_roles_asked(server: Server) -> list[str]:
    """Which delegated roles were asked for, in order: the others are at version 2."""
    names = [path.removeprefix("metadata/").removesuffix(".json") for path in server.requests]
    return [name.removeprefix("1.") for name in names if name.startswith("1.")]


GRAPHS = {
    "a branch to its end, then the next": (["targets>a", "targets>b", "a>c", "c>d"], "acdb"),
    "a circle ends": (["targets>a", "a>b", "b>c", "c>a"], "abc"),
    "a role below two others is read once": (["targets>a", "targets>b", "a>c", "b>c"], "acb"),
    "what terminates ends the search": (["targets>a", "a>c!", "a>d", "targets>b"], "ac"),
    "but for its own branches": (["targets>a!", "a>c", "c>d", "targets>b"], "acd"),
}


@pytest.mark.parametrize(("edges", "order"), GRAPHS.values(), ids=GRAPHS.keys())
def test_delegated_roles_are_asked_in_order(
    repository: TufRepository, server: Server, reader: Reader, edges: list[str], order: str
) -> None:
    for edge in edges:
        delegator, _, role = edge.rstrip("!").partition(">")
        repository.delegate(delegator, role, ["*/*"], terminating=edge.endswith("!"))
    repository.publish(*{edge.rstrip("!")[-1] for edge in edges}, *TOP)

    assert reader.target("docs/7.json") is None

    assert delegated_roles_asked(server) == list(order)


SIGNED = {
    "the pattern's folder": ("docs/*", "docs/7.json", True),
    "one character": ("docs/?.json", "docs/7.json", True),
    "two are not one": ("docs/?.json", "docs/77.json", False),
    "a star ends at a slash": ("docs/*", "docs/7/x.json", False),
    "another folder": ("docs/*", "dogs/7.json", False),
    "capitals": ("docs/*", "DOCS/7.json", False),
    "a pattern is no prefix": ("docs/7", "docs/7.json", False),
}


@pytest.mark.parametrize(("pattern", "name", "found"), SIGNED.values(), ids=SIGNED.keys())
def test_a_role_signs_what_was_delegated_to_it_and_nothing_else(
    repository: TufRepository, reader: Reader, pattern: str, name: str, found: bool
) -> None:
    repository.delegate("targets", "writer", [pattern])
    repository.add("writer", name, b"document")
    repository.publish("writer", *TOP)

    assert reader.target(name) == (b"document" if found else None)


def test_a_role_is_checked_by_whom_delegates_it_now(
    repository: TufRepository, reader: Reader
) -> None:
    """A role that one team vouches for is not believed on behalf of another."""
    for team in ("a", "b"):
        repository.delegate("targets", f"team-{team}", [f"{team}/*"])
    repository.delegate("team-a", "shared", ["a/*"])
    repository.delegate("team-b", "shared", ["b/*"])  # by a key that never signs it
    repository.add("shared", "a/x", b"of a")
    repository.add("shared", "b/x", b"of a, for b")
    repository.publish("shared", "team-a", "team-b", *TOP)

    with reader.opened() as opened:
        assert opened.target("a/x") == b"of a"
        with pytest.raises(TrustError, match="not signed by the keys"):
            opened.target("b/x")


def test_an_expired_role_is_refused_until_it_is_signed_anew(
    repository: TufRepository, reader: Reader
) -> None:
    repository.delegate("targets", "release", ["rel/*"])
    repository.add("release", "rel/1.json", b"one")
    repository.signed["release"].expires = in_days(-1)
    repository.publish("release", *TOP)

    with pytest.raises(TrustError, match=r"stale: release\.json has expired"):
        reader.target("rel/1.json")
    assert "release" not in reader.trusted()

    repository.signed["release"].expires = in_days(1)
    repository.publish("release", "snapshot", "timestamp")
    assert reader.target("rel/1.json") == b"one"


def test_a_role_that_no_snapshot_lists_is_not_asked_for(
    repository: TufRepository, server: Server, reader: Reader
) -> None:
    repository.delegate("targets", "release", ["rel/*"])
    repository.publish("release", "targets")
    del repository.signed["snapshot"].meta["release.json"]
    repository.publish("snapshot", "timestamp")

    with pytest.raises(TrustError):
        reader.target("rel/1.json")

    assert not [path for path in server.requests if "release" in path]


ODD = ["?", "#", "/x", "../x", "..", "%2F", "a b", "é"]


@pytest.mark.parametrize("role", ODD)
def test_a_roles_name_is_a_name_and_no_path(
    repository: TufRepository, server: Server, reader: Reader, role: str
) -> None:
    repository.delegate("targets", role, ["odd/*"])
    repository.add(role, "odd/x", b"content")
    repository.publish(role, *TOP)
    around = sorted(reader.home.parent.iterdir())

    assert reader.target("odd/x") == b"content"

    assert f"metadata/1.{quote(role, safe='')}.json" in server.requests
    assert reader.trusted()[quote(role, safe="")] == 1
    assert sorted(reader.home.parent.iterdir()) == around


@pytest.mark.parametrize("role", ODD)
def test_and_so_it_is_in_a_folder(repository: TufRepository, tmp_path: Path, role: str) -> None:
    repository.delegate("targets", role, ["odd/*"])
    repository.add(role, "odd/x", b"content")
    repository.publish(role, *TOP)

    assert make_reader(repository, tmp_path / "home").target("odd/x") == b"content"


@pytest.mark.parametrize("folder", ["", "deep/er/"])
def test_targets_lie_in_any_folder(
    repository: TufRepository, server: Server, reader: Reader, folder: str
) -> None:
    repository.add("targets", f"{folder}x", b"content")
    repository.publish(*TOP)

    assert reader.target(f"{folder}x") == b"content"

    assert server.requests[-1] == f"targets/{folder}{sha256(b'content').hexdigest()}.x"


def test_a_listed_role_that_is_missing_is_the_networks_matter(
    repository: TufRepository, reader: Reader
) -> None:
    """What a mirror lacks, it may have soon: what is trusted so far stays."""
    repository.delegate("targets", "release", ["rel/*"])
    repository.publish("release", *TOP)
    repository.path("release").unlink()

    with pytest.raises(NetworkError, match=r"1\.release\.json"):
        reader.target("rel/1.json")

    assert reader.trusted() == {"root": 2, "snapshot": 2, "targets": 2, "timestamp": 2}
