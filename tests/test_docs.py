"""Every block of the README runs, and what documents name exists."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from c2rec.export.cli import cli as export_cli
from c2rec.store_kiosk.cli import main as kiosk_cli
from c2rec.train.cli import cli as train_cli
from tests.kiosk_page import CARD, make_home

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = {"c2rec-train": train_cli, "c2rec-export": export_cli, "c2rec-kiosk": kiosk_cli}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with a small stand-in for the Kaggle download."""
    folder = tmp_path_factory.mktemp("readme")
    write_kaggle(folder / "kaggle")
    return folder


def write_kaggle(folder: Path) -> None:
    """Simulated purchases in the competition's layout."""
    import polars as pl

    from c2rec.train.simulate import simulate

    simulate(folder / "simulated", customers=300, items=100, days=30, seed=1)
    bought = pl.read_parquet(folder / "simulated" / "transactions.parquet")
    article = pl.format("0{}001", pl.col("item_id").str.slice(1))
    bought.select(
        t_dat=pl.col("timestamp").dt.date(),
        customer_id="customer_id",
        article_id=article,
        price="price",
        sales_channel_id=pl.when(pl.col("channel") == "offline").then(1).otherwise(2),
    ).write_csv(folder / "transactions_train.csv")
    items = pl.read_parquet(folder / "simulated" / "items.parquet")
    names = [
        "prod_name",
        "product_type_name",
        "product_group_name",
        "graphical_appearance_name",
        "colour_group_name",
        "department_name",
        "index_name",
        "index_group_name",
        "section_name",
        "garment_group_name",
        "detail_desc",
    ]
    columns = {name: pl.col("product_type") for name in names}
    items.select(article_id=article, **columns).write_csv(folder / "articles.csv")


def run_block(language: str, text: str, folder: Path) -> str:
    """Run a block as a reader would, with the installed commands on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = {"sh": ["sh", "-euc", text], "python": [sys.executable, "-c", text]}[language]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    # the README says why online scores are left out; any other warning is something that isn't so
    warned = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    assert [line for line in warned if "scores" not in line] == []
    return done.stdout


def test_the_blocks_of_the_readme_run_in_order(workplace: Path) -> None:
    """All but the make commands: CI runs two of them as they stand, the next test the third."""
    ran = 0
    for language, text in BLOCKS:
        if language == "text" or text.startswith("make "):
            continue
        assert run_block(language, text, workplace)
        ran += 1
    assert ran == sum(language in ("sh", "python") for language, _ in BLOCKS) - 3


def test_ci_runs_the_make_commands_of_the_readme() -> None:
    ci = (ROOT / ".ci" / "run").read_text().splitlines()
    targets = [text.strip() for _, text in BLOCKS if text.startswith("make ")]
    assert targets == ["make demo", "make page", "make test"]
    assert {"make demo", "make test"} <= set(ci)


def test_make_page_serves_the_kiosk_of_the_demo(tmp_path: Path) -> None:
    """To a browser that follows the address printed, types a card, and asks."""
    home = make_home(tmp_path)
    home.rename(tmp_path / "kiosk")
    venv = Path(sys.executable).parent.parent
    process = subprocess.Popen(
        ["make", "-o", f"{venv}/.ready", "page", f"VENV={venv}", f"DEMO={tmp_path}", "PORT=0"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next(each for each in lines if each.startswith("Serving "))
        place, _, token = address.removeprefix("Serving http://").strip().partition("/?token=")

        def post(path: str, body: dict[str, str]) -> dict[str, Any]:
            connection = http.client.HTTPConnection(place, timeout=60)
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request("POST", path, json.dumps(body), headers)
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
            connection.close()
            return answer

        session = f"/api/sessions/{post('/api/sessions', {})['session']}"
        assert post(f"{session}/scans", {"code": CARD})["known"]
        assert len(post(f"{session}/recommendations", {})["items"]) == 6
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=60)


def test_the_output_shown_is_what_the_demo_prints(workplace: Path) -> None:
    """The command shown is one of the demo's, and its first line of output is still so."""
    shown = next(text for language, text in BLOCKS if language == "text").splitlines()
    demo = (ROOT / "examples" / "demo.sh").read_text()
    assert shown[0].replace("$ c2rec", "run c2rec").replace("demo/kiosk", '"$OUT/kiosk"') in demo
    output = run_block("sh", "c2rec-kiosk --home kiosk recommend C0000001 -k 5", workplace)
    assert output.splitlines()[0] == shown[1]


def commands(group: click.Group) -> list[tuple[str, click.Command]]:
    """Every command with its name, those of groups in the group too."""
    found = sorted(group.commands.items())
    for name, command in list(found):
        if isinstance(command, click.Group):
            found += [(f"{name} {inner}", each) for inner, each in commands(command)]
    return found


@pytest.mark.parametrize("program", sorted(COMMANDS))
def test_every_command_and_option_has_help(program: str) -> None:
    group = COMMANDS[program]
    assert group.help
    assert group.commands
    for name, command in commands(group):
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{program} {name} {parameter.opts}"


def test_links_of_documents_lead_somewhere() -> None:
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            if not target.startswith("https://"):
                assert (path.parent / target).exists(), f"{path}: {target}"


def test_the_version_is_told_once() -> None:
    """pyproject.toml says it; the changelog's newest entry is about it."""
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert newest is not None
    assert newest[1] == version
