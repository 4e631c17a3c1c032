"""Completion of the three commands, in the shells themselves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from c2rec.export.cli import cli as export_cli
from c2rec.store_kiosk.cli import main as kiosk_cli
from c2rec.train.cli import cli as train_cli

COMMANDS = {"c2rec-kiosk": kiosk_cli, "c2rec-export": export_cli, "c2rec-train": train_cli}
BIN = Path(sys.executable).parent
COMPLETED = [
    ("c2rec-kiosk", "ser", ["serve"]),
    ("c2rec-kiosk", "serve --langu", ["--language"]),
    ("c2rec-kiosk", "serve --language ", ["en", "de", "ko"]),
    ("c2rec-kiosk", "config ", ["check", "show"]),
    ("c2rec-export", "keys ro", ["rotate"]),
    ("c2rec-train", "eval", ["evaluate"]),
]


def completed(shell: str, script: str, tmp_path: Path) -> list[str]:
    """What a shell, started bare, prints in a script."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    flags = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    environment = {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [shell, *flags, "-c", script],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(("command", "typed", "expected"), COMPLETED)
def test_bash_completes(command: str, typed: str, expected: list[str], tmp_path: Path) -> None:
    """As bash does it at a tab: the function that the script registered, with its variables."""
    empty = '""' if typed.endswith(" ") else ""
    script = (
        f'eval "$({command} completion bash)"\n'
        f"complete -p {command} >/dev/null\n"
        f"COMP_WORDS=({command} {typed}{empty})\n"
        "COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))\n"
        f"_{command.replace('-', '_')}_completion {command}\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    assert completed("bash", script, tmp_path) == expected


@pytest.mark.skipif(shutil.which("fish") is None, reason="there is no fish")
@pytest.mark.parametrize(("command", "typed", "expected"), COMPLETED)
def test_fish_completes(command: str, typed: str, expected: list[str], tmp_path: Path) -> None:
    script = f"{command} completion fish | source; complete -C '{command} {typed}'"
    found = completed("fish", script, tmp_path)
    assert set(expected) <= set(found)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
@pytest.mark.parametrize("command", COMMANDS)
def test_zsh_takes_the_script(command: str, tmp_path: Path) -> None:
    script = (
        f'autoload -Uz compinit; compinit -u; eval "$({command} completion zsh)"; '
        f"print $_comps[{command}]"
    )
    assert completed("zsh", script, tmp_path) == [f"_{command.replace('-', '_')}_completion"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_script_is_printed_for_every_shell(command: str, shell: str) -> None:
    result = CliRunner().invoke(COMMANDS[command], ["completion", shell])
    assert result.exit_code == 0
    variable = f"_{command.replace('-', '_')}_complete".upper()
    assert f"{variable}={shell}_complete" in result.stdout


def test_another_shell_is_wrong_usage() -> None:
    assert CliRunner().invoke(kiosk_cli, ["completion", "csh"]).exit_code == 2


def test_completing_loads_nothing_heavy() -> None:
    """A person waits after each tab."""
    script = (
        "import atexit, sys\n"
        "heavy = {'numpy', 'onnxruntime', 'sqlite_utils', 'tuf', 'prometheus_client'}\n"
        "atexit.register(lambda: print(sorted(heavy & sys.modules.keys()), file=sys.stderr))\n"
        "from c2rec.store_kiosk.cli import main\n"
        "main(prog_name='c2rec-kiosk')\n"
    )
    asked = {
        "_C2REC_KIOSK_COMPLETE": "bash_complete",
        "COMP_WORDS": "c2rec-kiosk ser",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("plain,serve\n", "[]\n")
