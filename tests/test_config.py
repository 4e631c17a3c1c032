"""Options from kiosk.toml and the environment, and the commands that tell of them."""

import json
import os
import re
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from c2rec.runtime.home.settings import (
    Settings,
    find_settings,
    parse_document,
    settings_path,
    tables_text,
    variable,
    without_password,
)
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.cli import main
from c2rec.store_kiosk.config import option_variable, options_of
from tests.release import make_release

REPOSITORY = 'repository = "/srv/c2rec"\n'


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_release(folder / "bundle")
    install(folder / "bundle", folder / "home")
    return folder / "home"


@pytest.fixture
def home(made: Path) -> Path:
    settings_path(made).unlink(missing_ok=True)
    return made


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("C2REC_")]:
        monkeypatch.delenv(name)


def run(home: Path, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(home), *arguments], env=environment)


def written(home: Path, text: str) -> Path:
    path = settings_path(home)
    path.write_text(text)
    return path


def shown(
    home: Path, *arguments: str, **environment: str
) -> dict[str, tuple[Any, str, str | None]]:
    """What config show tells of a command's options: value, source and place by name."""
    result = run(home, "config", "show", "--json", *arguments, **environment)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["values"]
    return {row["name"]: (row["value"], row["source"], row["where"]) for row in rows}


# --- which value counts


def test_a_flag_goes_before_the_environment_that_before_the_file_that_before_the_default(
    home: Path,
) -> None:
    def answered(*flags: str, **environment: str) -> int:
        result = run(home, "recommend", "--json", *flags, **environment)
        return len(json.loads(result.stdout)["items"])

    assert answered() == 10
    written(home, "[recommend]\nk = 7\n")
    assert answered() == 7
    assert answered(C2REC_RECOMMEND_K="6") == 6
    assert answered("-k", "5", C2REC_RECOMMEND_K="6") == 5


def test_config_show_tells_where_each_value_comes_from(home: Path) -> None:
    path = written(home, '[serve]\nport = 9000\nallow_host = ["a", "b"]\nidle = 90\n')
    values = shown(home, "serve", "--idle", "70", C2REC_SERVE_PORT="9001")
    assert values["port"] == (9001, "environment", "C2REC_SERVE_PORT")
    assert values["allow-host"] == (["a", "b"], "file", str(path))
    assert values["idle"] == (70, "flag", "--idle")
    assert values["warning"] == (30, "default", None)
    assert values["token-file"] == (None, "default", None)


def test_config_show_tells_settings_too_and_no_password(home: Path) -> None:
    text = 'repository = "https://me:secret@host/x"\nring = "pilot"\n'
    path = written(home, text)
    result = run(home, "config", "show", C2REC_RING="beta", C2REC_EVENTS="http://u:pw@e")
    assert result.exit_code == 0, result.output
    assert "secret" not in result.output
    given = {"C2REC_ENROL_REPOSITORY": "https://u:hidden@host"}
    assert shown(home, "enrol", **given)["repository"][0] == "https://***@host"
    assert "pw@" not in result.output
    lines = [re.split(" {2,}", line) for line in result.stdout.splitlines()]
    assert ["repository", '"https://***@host/x"', f"file {path}"] in lines
    assert ["ring", '"beta"', "environment C2REC_RING"] in lines
    assert ["deadline", "3600.0", "default"] in lines
    assert ["[serve]"] in lines


def test_every_option_of_every_command_is_told(home: Path) -> None:
    rows = json.loads(run(home, "config", "show", "--json").stdout)["values"]
    told = {(row["table"], row["name"]) for row in rows}
    for name, command in main.commands.items():
        assert {(name, each) for each in options_of(command)} <= told
    assert {(None, field) for field in Settings.__dataclass_fields__} <= told


def test_no_two_values_have_one_variable() -> None:
    names = [variable(field) for field in Settings.__dataclass_fields__] + ["C2REC_HOME"]
    for name, command in main.commands.items():
        for option in options_of(command).values():
            if option.envvar != "C2REC_LOG_FORMAT":
                assert option.envvar == option_variable(name, option)
                names.append(str(option.envvar))
    assert len(names) == len(set(names))


def test_a_flag_and_a_list_come_from_the_environment(home: Path) -> None:
    given = {"C2REC_SERVE_ALLOW_HOST": "a b", "C2REC_SERVE_NO_TOKEN": "true"}
    values = shown(home, "serve", **given)
    assert values["allow-host"][0] == ["a", "b"]
    assert values["no-token"][0] is True


# --- what is wrong


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[recommend]\nk = 'x'", "[recommend] k is 'x'; allowed: a whole number"),
        ("[recommend]\nk = true", "[recommend] k is True; allowed: a whole number"),
        ("[recommend]\nk = 5.5", "[recommend] k is 5.5; allowed: a whole number"),
        ("[recommend]\nkk = 5", "[recommend] kk is no option; allowed: k, basket, channel"),
        ("[recommend]\nbasket = 'a'", "basket is 'a'; allowed: a list, each a text, in quotes"),
        ("[recommend]\nbasket = [1]", "basket is [1]; allowed: a list, each a text, in quotes"),
        ("[recommend]\nchannel = 'x'", 'channel is \'x\'; allowed: "offline" or "online"'),
        ("[recommend]\nvisitors = 1", "visitors is 1; allowed: true or false"),
        ("[recommend]\nonly = 'list'", "only is 'list'; allowed: an absolute path, in quotes"),
        ("[recommend]\nonly = '/no/list'", "'/no/list' does not exist"),
    ],
)
def test_what_is_wrong_in_the_own_table_is_told_by_file_table_and_key(
    home: Path, text: str, message: str
) -> None:
    path = written(home, text)
    result = run(home, "recommend")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"Error: {path}: [recommend] ")
    assert message in result.stderr
    check = run(home, "config", "check")
    assert (check.exit_code, message in check.stdout) == (1, True)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("port", "70000", "port is 70000; allowed: a whole number, 0 to 65535"),
        ("currency", "'euro'", "'euro' is no code such as EUR"),
        ("cards", "'('", "'(' is no regular expression"),
        ("log-format", "'xml'", 'allowed: "text" or "json"'),
    ],
)
def test_what_serve_can_not_use_is_found_by_config_check(
    home: Path, option: str, value: str, message: str
) -> None:
    written(home, f"[serve]\n{option} = {value}\n")
    check = run(home, "config", "check")
    assert (check.exit_code, message in check.stdout) == (1, True), check.stdout


def test_a_broken_table_stops_no_other_command(home: Path) -> None:
    written(home, "[serve]\nport = 'x'\n[queue]\nnonsense = 1\n")
    for command in (["recommend"], ["status"]):
        result = run(home, *command)
        assert (result.exit_code, result.stderr) == (0, "")
    assert run(home, "queue").exit_code == 2


def test_a_table_that_is_no_commands_is_warned_of(home: Path) -> None:
    path = written(home, "[srve]\nport = 1\n")
    result = run(home, "recommend")
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Warning: {path}: [srve] is no command's; allowed: enrol, ")
    assert run(home, "config", "check").exit_code == 1


def test_a_file_that_is_no_toml_stops_what_needs_it_alone(home: Path) -> None:
    path = written(home, "repository = \n")
    answer = run(home, "recommend")
    assert answer.exit_code == 0
    assert answer.stderr.startswith(f"Warning: {path}: not valid TOML")
    # an address that it can't listen on, so that a test that fails ends
    for command in (["serve", "--host", "203.0.113.1"], ["sync"]):
        result = run(home, *command)
        assert result.exit_code == 1
        assert f"{path}: not valid TOML" in result.stderr
        assert "203.0.113.1" not in result.stderr
    assert run(home, "config", "check").stdout.startswith(f"{path}: not valid TOML")


def test_help_is_given_whatever_the_file_says(home: Path) -> None:
    written(home, "[recommend]\nk = 'x'\n")
    assert run(home, "recommend", "--help").exit_code == 0


def test_a_wrong_variable_is_named(home: Path) -> None:
    result = run(home, "recommend", C2REC_RECOMMEND_K="x")
    assert result.exit_code == 2
    assert "C2REC_RECOMMEND_K: 'x' is not a valid integer" in result.stderr
    check = run(home, "config", "check", C2REC_RECOMMEND_K="x", C2REC_RING="X", C2REC_SRVE="1")
    assert check.exit_code == 1
    told = check.stdout.splitlines()
    assert [line.split(" is ")[0] for line in told] == [
        "C2REC_RING",
        "C2REC_RECOMMEND_K",
        "the variable C2REC_SRVE",
    ]


def test_all_is_told_at_once_and_as_a_document(home: Path) -> None:
    path = written(home, 'ring = "X"\n[serve]\nport = 1.5\nidle = 3\n[x]\n')
    document = json.loads(run(home, "config", "check", "--json").stdout)
    assert document["file"] == str(path)
    assert len(document["troubles"]) == 4
    settings_path(home).unlink()
    assert json.loads(run(home, "config", "check", "--json").stdout)["troubles"] == []


def test_config_show_of_what_is_no_command_is_refused(home: Path) -> None:
    result = run(home, "config", "show", "srve")
    assert result.exit_code == 2
    assert "srve is no command; allowed: enrol, sync" in result.stderr


# --- settings


def test_a_setting_of_the_environment_goes_before_the_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(home, REPOSITORY + 'ring = "pilot"\n[serve]\nport = 1\n')
    monkeypatch.setenv("C2REC_RING", "beta")
    monkeypatch.setenv("C2REC_READ_TIMEOUT", "2.5")
    monkeypatch.setenv("C2REC_VISITORS", "true")
    monkeypatch.setenv("C2REC_EVENTS", "")
    found = Settings(repository="/srv/c2rec", ring="beta", read_timeout=2.5, visitors=True)
    assert find_settings(home) == found


def test_the_environment_alone_is_enough(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_settings(home) is None
    monkeypatch.setenv("C2REC_RING", "beta")
    assert find_settings(home) is None
    monkeypatch.setenv("C2REC_REPOSITORY", "https://host/c2rec")
    assert find_settings(home) == Settings(repository="https://host/c2rec", ring="beta")


def test_tables_alone_enrol_nobody(home: Path) -> None:
    written(home, "[recommend]\nk = 3\n")
    assert find_settings(home) is None
    result = run(home, "sync")
    assert result.exit_code == 1
    assert "is not enrolled: it has no kiosk.toml with a repository" in result.stderr


def test_a_password_is_in_no_error(home: Path) -> None:
    written(home, 'repository = "https://me:secret@host/x?y"\n')
    result = run(home, "sync")
    assert "repository is 'https://***@host/x?***'; allowed" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        'repository = "https://me:the/secret@host/x"\n',
        'repository = "https://host/x?signature=secret"\n',
        'repository = ["https://me:secret@host/x"]\n',
        'repository = {main = "https://me:secret@host/x"}\n',
        '[serve]\nport = "https://me:a/secret@host"\n',
    ],
)
def test_no_secret_of_what_can_t_be_used_is_shown(home: Path, text: str) -> None:
    written(home, text)
    for command in (
        ["config", "show"],
        ["config", "show", "--json"],
        ["config", "check"],
        ["sync"],
    ):
        result = run(home, *command)
        assert "secret" not in result.output, command


def test_no_secret_of_a_variable_is_shown(home: Path) -> None:
    for name in ("C2REC_SERVE_PORT", "C2REC_REPOSITORY"):
        result = run(home, "config", "check", **{name: "https://me:the/secret@host"})
        assert f"{name} is 'https://***@host'" in result.output
        assert "secret" not in result.output


def test_an_address_that_can_be_used_is_shown_but_for_its_password() -> None:
    for place in ("https://host:8443/c2rec@2", "/srv/c2rec@2?", "https://host/c2rec@2"):
        assert without_password(place) == place
    assert without_password("https://me:a@b@host:1/x@2") == "https://***@host:1/x@2"


@pytest.mark.parametrize(
    "text",
    [
        "[serve]\nport = 1\n",
        "# all\n\n[serve] # ours\ncards = '''\n[x]\n'''\n",
        "[recommend]\nbasket = [\n  'a', # one\n]\n[serve]\n",
    ],
)
def test_tables_are_kept_as_they_were_written(text: str) -> None:
    assert tables_text(REPOSITORY + text) == text[text.index("[") :]
    assert tables_text(REPOSITORY) == ""


def test_tables_in_one_line_are_written_anew() -> None:
    kept = tables_text(f'{REPOSITORY}serve.port = 1\nserve.allow-host = ["a"]\nring = "x"\n')
    assert parse_document(kept) == {"serve": {"port": 1, "allow-host": ["a"]}}


def test_the_file_in_the_documentation_can_be_used(home: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "running.md").read_text()
    found = re.search(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found is not None
    written(home, found[1])
    assert run(home, "config", "check").exit_code == 0
    assert shown(home, "serve")["port"][:2] == (9000, "file")


def test_every_default_can_be_written_in_the_file(home: Path) -> None:
    """As config show tells them: what is printed is what may be written."""
    rows = json.loads(run(home, "config", "show", "--json").stdout)["values"]
    tables: dict[str, list[str]] = {}
    for row in rows:
        if row["table"] is not None and row["value"] is not None:
            line = f"{row['name']} = {json.dumps(row['value'])}"
            tables.setdefault(row["table"], []).append(line)
    text = "".join(f"[{name}]\n" + "\n".join(lines) + "\n" for name, lines in tables.items())
    written(home, text)
    assert run(home, "config", "check").exit_code == 0
    assert isinstance(main, click.Group)
