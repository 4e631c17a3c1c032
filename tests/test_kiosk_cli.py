"""The command as a person and a script meet it: output, errors, exit codes."""

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from c2rec.runtime.records import CHANNELS, COMPONENTS, TIERS
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.cli import main
from tests.homes import files_with
from tests.release import make_release

NAME = "2020-07-27-00000001"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, and a home with it installed."""
    folder = tmp_path_factory.mktemp("made")
    make_release(folder / "bundle", name=NAME)
    install(folder / "bundle", folder / "home")
    return folder


@pytest.fixture
def home(made: Path) -> Path:
    return made / "home"


def kiosk(home: Path | str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments])


def succeed(home: Path | str, *arguments: str) -> str:
    result = kiosk(home, *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def fail(home: Path | str, *arguments: str) -> str:
    """One error line on stderr, nothing on stdout, exit code 1."""
    result = kiosk(home, *arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


# --- recommend


def test_the_json_answer_is_one_document_of_schema_1(home: Path) -> None:
    text = succeed(home, "recommend", "c000003", "-k", "3", "--basket", "i000001,nope", "--json")
    answer = json.loads(text)
    keys = (
        "schema customer_id channel tier release goes_with instead_of items path online_as_of "
        "online_age_s arm model unknown_items notes elapsed_ms"
    )
    assert list(answer) == keys.split()
    assert answer["schema"] == 1
    assert (answer["customer_id"], answer["channel"]) == ("c000003", "offline")
    assert (answer["tier"], answer["release"]) == ("personal", NAME)
    assert answer["unknown_items"] == ["nope"]
    assert 0 < answer["elapsed_ms"] < 60_000
    assert len(answer["items"]) == 3
    for item in answer["items"]:
        assert list(item) == ["item_id", "score", "reason", "attention", "name", "tier"]
        assert tuple(item["attention"]) == COMPONENTS
        assert sum(item["attention"].values()) == pytest.approx(1)
        assert isinstance(item["score"], float)


@pytest.mark.parametrize("channel", CHANNELS)
def test_neither_customer_nor_basket_is_a_request_too(home: Path, channel: str) -> None:
    answer = json.loads(succeed(home, "recommend", "--channel", channel, "--json"))
    assert (answer["customer_id"], answer["tier"]) == (None, "store-popular")
    assert len(answer["items"]) == 10
    assert answer["tier"] in TIERS


@pytest.mark.parametrize(
    ("options", "unknown"),
    [
        (["--basket", "x,y"], ["x", "y"]),
        (["--basket", "x", "--basket", "y"], ["x", "y"]),
        (["--basket", '"j,1",x'], ["x"]),
        (["--basket", '"a""b"'], ['a"b']),
        (["--basket", ""], []),
    ],
)
def test_a_basket_is_a_line_of_csv(home: Path, options: list[str], unknown: list[str]) -> None:
    answer = json.loads(succeed(home, "recommend", *options, "--json"))
    assert answer["unknown_items"] == unknown


def test_text_is_an_aligned_table_under_a_head(home: Path) -> None:
    lines = succeed(home, "recommend", "c000003", "-k", "12").splitlines()
    assert lines[0] == "For customer c000003, offline: from what the customer buys (personal)"
    assert lines[1] == f"Release {NAME}, data up to 2020-07-27"
    head, *rows = lines[3:]
    assert head.split() == ["name", "item", "score", *COMPONENTS, "reason"]
    assert len(rows) == 12
    assert {row[head.index("reason") - 2 :][:2] for row in rows} == {"  "}
    assert all("%" in row for row in rows)


def test_text_names_what_the_release_does_not_know(home: Path) -> None:
    assert "Not in this release: nope" in succeed(home, "recommend", "--basket", "nope")


def test_no_control_character_reaches_a_terminal(home: Path) -> None:
    """The release has a name that turns a terminal red, and so has the request."""
    text = succeed(home, "recommend", "\x1b[2Jwho", "-k", "40", "--basket", "no\x07pe")
    assert "�[31mred�" in text
    assert "�[2Jwho" in text
    assert all(c.isprintable() for c in text.replace("\n", ""))
    assert "\x1b" not in fail("/nowhere/\x1b[2J", "recommend")


def test_json_keeps_every_character(home: Path) -> None:
    text = succeed(home, "recommend", "-k", "40", "--json")
    assert "\x1b[31mred\x07" in {item["name"] for item in json.loads(text)["items"]}


@pytest.mark.parametrize("arguments", [["-k", "0"], ["-k", "1001"]])
def test_k_out_of_range_is_an_error(home: Path, arguments: list[str]) -> None:
    result = kiosk(home, "recommend", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert "allowed: 1 to 1000" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["recommend", "--channel", "phone"],
        ["recommend", "-k", "many"],
        ["recommend", "--basket", '"open'],
        ["recommend", "a", "b"],
        ["install"],
        ["dance"],
    ],
)
def test_wrong_usage_exits_2(home: Path, arguments: list[str]) -> None:
    result = kiosk(home, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


# --- status


def test_the_json_status_is_one_document_of_schema_1(home: Path) -> None:
    document = json.loads(succeed(home, "status", "--json"))
    assert document["schema"] == 1
    assert document["home"] == str(home)
    assert (document["release"], document["previous"]) == (NAME, None)
    assert (document["format"], document["encoder"], document["embedding_size"]) == (
        1,
        "history",
        8,
    )
    assert document["counts"]["items"] == 40
    age = (datetime.now(UTC).date() - date(2020, 7, 27)).days
    assert document["data"]["from"] == "2020-07-01"
    assert age - 1 <= document["data"]["age_days"] <= age
    named = files_with(home.parent / "bundle") - {"lock", "state.json", "whole.json"}
    assert document["files"] == {name: (home / name).stat().st_size for name in named}
    assert document["installed_at"].endswith("Z")
    assert (document["customers_here"], document["online_scores"]) == (30, None)


def test_status_text_has_a_fact_per_line(home: Path) -> None:
    lines = succeed(home, "status").splitlines()
    facts = dict(line.split("  ", 1) for line in lines)
    assert facts["release"].strip() == NAME
    assert len({len(line) - len(line.split("  ", 1)[1].lstrip()) for line in lines}) == 1
    assert facts["customers"].strip() == "30 here, of 30"
    assert facts["online scores"].strip() == "none"


@pytest.mark.parametrize("command", ["status", "recommend"])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_without_a_release_the_next_command_is_told(
    tmp_path: Path, command: str, options: list[str]
) -> None:
    home = tmp_path / "my home"
    expected = (
        f"no release is installed in {home}; install one: c2rec-kiosk --home '{home}' install"
    )
    assert expected in fail(home, command, *options)


@pytest.mark.parametrize("file", ["state.db", f"gen/{NAME}.db"])
@pytest.mark.parametrize("damage", ["removed", "no SQLite", "a folder"])
def test_a_damaged_home_is_one_clear_error(
    made: Path, tmp_path: Path, file: str, damage: str
) -> None:
    home = shutil.copytree(made / "home", tmp_path / "home")
    (home / "state.json").unlink()
    (home / file).unlink()
    if damage == "no SQLite":
        (home / file).write_text("no database" * 99)
    elif damage == "a folder":
        (home / file).mkdir()
    for command in ("status", "recommend"):
        assert "c2rec-kiosk --home" in fail(home, command)


def test_the_previous_release_answers_with_a_warning(made: Path, tmp_path: Path) -> None:
    home = shutil.copytree(made / "home", tmp_path / "home")
    make_release(tmp_path / "new", name="new")
    install(tmp_path / "new", home)
    (home / "gen" / "new.db").unlink()
    result = kiosk(home, "recommend", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["release"] == NAME
    assert result.stderr.startswith(f"Warning: can't read {home}/gen/new.db")


# --- install


def test_install_says_what_it_did(made: Path, tmp_path: Path) -> None:
    assert succeed(tmp_path, "install", str(made / "bundle")) == f"Release {NAME} is active.\n"
    again = succeed(tmp_path, "install", str(made / "bundle"))
    assert again == f"Release {NAME} is active already; nothing to do.\n"
    make_release(tmp_path / "new", name="new")
    text = succeed(tmp_path, "install", str(tmp_path / "new"))
    assert text == f"Release new is active, was {NAME}.\n"


def test_a_bad_bundle_is_one_clear_error(tmp_path: Path) -> None:
    assert "is not a folder with a bundle" in fail(tmp_path / "home", "install", "/no/such\x1b")
    (tmp_path / "file").touch()
    make_release(tmp_path / "bundle")
    assert "can't write to the home folder" in fail(
        tmp_path / "file", "install", str(tmp_path / "bundle")
    )


# --- help


@pytest.mark.parametrize("arguments", [["--help"], ["install", "-h"], ["recommend", "--help"]])
def test_every_command_helps(home: Path, arguments: list[str]) -> None:
    assert "Usage: " in succeed(home, *arguments)


def test_the_version_is_the_package_s(home: Path) -> None:
    assert succeed(home, "--version").startswith("c2rec-kiosk, version ")


def test_a_file_tells_what_may_be_shown(home: Path, tmp_path: Path) -> None:
    stock, adult = tmp_path / "stock.txt", tmp_path / "adult.txt"
    stock.write_bytes("\ufeffi000004\r\ni000007\r\n\r\nj,1\r\nété\r\n".encode())
    adult.write_text("i000007\nnothing we sell\ni000004\0x\n")
    result = kiosk(home, "recommend", "--only", str(stock), "--without", str(adult), "--json")
    assert {item["item_id"] for item in json.loads(result.stdout)["items"]} == {
        "i000004",
        "j,1",
        "été",
    }
    assert result.stderr == "Note: ids of --only and --without not in this release: 2\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no id; allowed: one item id in a line"),
        (b"\n\n", "holds no id"),
        (b"i000004\n\xff\n", "byte 8 is no UTF-8; allowed: one item id in a line"),
    ],
)
def test_a_list_of_items_that_is_none_is_refused(
    home: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "stock.txt"
    path.write_bytes(content)
    for option in ("--only", "--without"):
        result = kiosk(home, "recommend", option, str(path))
        assert result.exit_code == 1
        assert f"{path}: {message}" in result.stderr


def test_a_list_without_an_end_is_refused(home: Path) -> None:
    result = kiosk(home, "recommend", "--only", "/dev/zero")
    assert result.exit_code == 1
    assert "/dev/zero: holds more than 100,000,000 letters; allowed: one item id" in result.stderr


def test_what_is_asked_for_rules_and_stock_are_obeyed(home: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf.csv"
    prices = [f"i{row:06},{row}.50,{row % 3}" for row in range(30)]
    shelf.write_text("\n".join(["item_id,price,stock", *prices]) + "\n")
    asked = ["--shelf", str(shelf), "--price", "10..20", "--where", "colour=red"]
    answer = json.loads(succeed(home, "recommend", "-k", "20", *asked, "--json"))
    expected = {f"i{row:06}" for row in range(10, 20) if row % 3}
    assert {item["item_id"] for item in answer["items"]} == expected
    notes = {note["kind"]: note["items"] for note in answer["notes"]}
    assert notes == {"sold out": 10, "price": 30}
    text = succeed(home, "recommend", *asked, "--at-most", "colour=2", "--diversity", "0.5")
    assert "No more than 2, for some items are kept back:\n  sold out: 10\n" in text
    assert "more of a kind than are shown “at most 2 per colour”: 5" in text


def test_the_home_s_own_rules_and_stock_are_obeyed(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    succeed(home, "install", str(made / "bundle"))
    best = json.loads(succeed(home, "recommend", "-k", "3", "--json"))["items"]
    first, second, third = (item["item_id"] for item in best)
    (home / "rules.toml").write_text(f'format = 1\n[[deny]]\nitems = ["{first}"]\n')
    (home / "shelf.csv").write_text(f"item_id,stock\n{second},0\n")
    answer = json.loads(succeed(home, "recommend", "-k", "1", "--json"))
    assert [item["item_id"] for item in answer["items"]] == [third]
    (home / "rules.toml").write_text("format = 1\n[[deny]]\n")
    result = kiosk(home, "recommend", "-k", "1", "--json")
    assert [item["item_id"] for item in json.loads(result.stdout)["items"]] == [first]
    assert "rules.toml: deny 1: says of no items what it is about; allowed:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--where", "colour"], 2, "is 'colour'; allowed: a column and a value, as in colour=red"),
        (["--where", "size=S"], 2, "where: the items have no column 'size'; allowed: colour"),
        (["--price", "10"], 2, "is '10'; allowed: two numbers, as in 10..50"),
        (["--price", "a..b"], 2, "is 'a..b'; allowed: two numbers"),
        (["--price", "20..10"], 2, "price is 20.0 to 10.0; allowed: two numbers from 0"),
        (["--price", "nan..10"], 2, "price is nan to 10.0"),
        (["--at-most", "colour=x"], 2, "is 'colour=x'; allowed: a column and a whole number"),
        (["--at-most", "colour=0"], 2, "at_most: colour is 0; allowed: 1 to 1000"),
        (["--diversity", "2"], 2, "2.0 is not in the range 0<=x<=1"),
        (["--diversity", "nan"], 2, "diversity is nan; allowed: 0 to 1"),
    ],
)
def test_what_can_t_be_asked_for_is_refused(
    home: Path, arguments: list[str], code: int, message: str
) -> None:
    result = kiosk(home, "recommend", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
