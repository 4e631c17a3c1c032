"""What the doctor says of a store's own files."""

from collections.abc import Callable
from pathlib import Path

import pytest

from c2rec.runtime.home.disk import generation_path
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.doctor import diagnose
from c2rec.store_kiosk.findings import Finding
from tests.release import Release
from tests.rule_cases import make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Release:
    rules = {"deny": [{"items": ["i000001"]}], "session": {"repeats": 2}}
    return make_shop(tmp_path_factory.mktemp("shop") / "bundle", rules)


@pytest.fixture
def home(shop: Release, tmp_path: Path) -> Path:
    install(shop.folder, tmp_path)
    return tmp_path


def found(home: Path, check: str) -> list[Finding]:
    return [each for each in diagnose(home) if each.check == check]


def test_without_files_there_is_nothing_to_say(home: Path) -> None:
    assert found(home, "shelf") == []
    (of_release,) = found(home, "rules")
    assert (of_release.verdict, of_release.text) == ("ok", "the release's rules.toml: 2 rules")


def test_good_files_are_told_with_what_the_release_does_not_know(home: Path) -> None:
    (home / "rules.toml").write_text('format = 1\n[[deny]]\nitems = ["i000003", "é", "x"]\n')
    (home / "shelf.csv").write_text("item_id,stock\ni000003,0\ni000004,\nx,3\n")
    _, rules = found(home, "rules")
    assert rules.verdict == "ok"
    assert rules.text == f"{home / 'rules.toml'}: 1 rule; the release doesn't know 2"
    (shelf,) = found(home, "shelf")
    assert shelf.verdict == "ok"
    assert shelf.text == (
        f"{home / 'shelf.csv'}: 3 items, 1 of them sold out; the release doesn't know 1"
    )


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rules.toml", b"[[[", "is not valid TOML"),
        ("rules.toml", b"format = 1 # \xff", "byte 13 is no UTF-8"),
        ("rules.toml", b"format = 1\n[[deny]]\nitem = 3\n", "deny 1: 'item' is unknown; allowed"),
        (
            "rules.toml",
            b'format = 1\n[[at_most]]\nper = "size"\nn = 1\n',
            "at_most 1: per: the items have no column 'size'; allowed: brand, category, price",
        ),
        ("shelf.csv", b"item_id,stock\ni000003,many\n", "row 2: stock is 'many'; allowed"),
        ("shelf.csv", b"item;stock\n", "its columns are item;stock; allowed: item_id and any"),
        ("shelf.csv", b"", "its columns are none"),
    ],
)
def test_a_file_that_can_not_be_used_is_a_failure_that_says_why(
    home: Path, name: str, content: bytes, said: str
) -> None:
    (home / name).write_bytes(content)
    finding = found(home, name.partition(".")[0])[-1]
    assert finding.verdict == "failure"
    assert finding.text.startswith(str(home / name))
    assert said in finding.text
    assert finding.fix == "mend it, and rename it over the old one"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rules.toml", 'format = 1\n[[deny]]\nitems = ["3", "4"]\n'),
        ("shelf.csv", "item_id,stock\n3,0\n4,1\n"),
    ],
)
def test_a_file_with_other_ids_is_a_warning(home: Path, name: str, content: str) -> None:
    (home / name).write_text(content)
    finding = found(home, name.partition(".")[0])[-1]
    assert finding.verdict == "warning"
    assert finding.text.endswith("the release knows none of the 2 items that it names")
    assert finding.fix is not None


def test_rules_of_the_release_that_this_version_can_not_read_are_a_warning(
    shop: Release, tmp_path: Path
) -> None:
    import sqlite3
    from contextlib import closing

    install(shop.folder, tmp_path)
    path = generation_path(tmp_path, shop.manifest.release)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE about SET value = ? WHERE name = 'rules'", ["format = 1\n[colour]\n"])
    (finding,) = found(tmp_path, "rules")
    assert finding.verdict == "warning"
    assert "'colour' is unknown" in finding.text


@pytest.mark.parametrize(
    "change",
    [lambda path: path.unlink(), lambda path: path.write_bytes(b"junk" * 4096)],
    ids=["gone", "junk"],
)
def test_without_a_release_the_files_are_looked_at_all_the_same(
    home: Path, shop: Release, change: Callable[[Path], None]
) -> None:
    change(generation_path(home, shop.manifest.release))
    (home / "rules.toml").write_text('format = 1\n[[deny]]\nwhere = {size = "S"}\n')
    (home / "shelf.csv").write_text("item_id,stock\ni000003,x\n")
    assert [each.verdict for each in found(home, "rules")] == ["ok"]
    assert [each.verdict for each in found(home, "shelf")] == ["failure"]
