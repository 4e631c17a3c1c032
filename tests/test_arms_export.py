"""From runs to a release with an experiment, and from its answers to head office's tables."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import polars as pl
import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

from c2rec.export.arms import PlannedArm, plan_experiment
from c2rec.export.bundle import space_of_run, with_newer, write_bundle
from c2rec.export.check import check_bundle
from c2rec.export.cli import cli
from c2rec.export.publish import publish
from c2rec.runtime.answer import Answer
from c2rec.runtime.errors import ReleaseError
from c2rec.runtime.home.identity import identity_path, pseudonym
from c2rec.runtime.home.settings import SETTINGS, Settings
from c2rec.runtime.recommender import Recommender
from c2rec.runtime.records import CHANNELS
from c2rec.runtime.release.bundle import read_bundle
from c2rec.runtime.release.experiment import assign
from c2rec.runtime.release.install import install
from c2rec.store_kiosk.cli import main as kiosk_main
from c2rec.train import loop
from c2rec.train.commands.options import errors_to_exit
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig, write_config
from c2rec.train.run import Run, load_run, prepare
from c2rec.train.simulate import simulate
from c2rec.train.transactions import read_dataset
from tests.offices import Office, make_office
from tests.quiet import QuietReporter
from tests.release import change_tensor

ARM = "challenger"


def fit(folder: Path, data: Path, model: ModelConfig, *, least: int = 3) -> Run:
    config = RunConfig(
        data=str(data),
        fingerprint=read_dataset(data).fingerprint,
        split=SplitConfig(valid_days=5, test_days=5, min_interactions=least),
        model=model,
        training=TrainingConfig(epochs=3, batch_size=64, threads=1),
    )
    folder.mkdir()
    write_config(folder, config)
    loop.fit(config, prepare(read_dataset(data), config.split), folder, QuietReporter())
    return load_run(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "data"
    simulate(folder, customers=300, items=80, days=40, seed=3)
    return folder


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Two models of one retailer: of another size, and with weights that are sigmoids."""
    folder = tmp_path_factory.mktemp("runs")
    return (
        fit(folder / "main", data, ModelConfig(embedding_size=8)),
        fit(folder / "other", data, ModelConfig(embedding_size=12, attention="sigmoid")),
    )


@pytest.fixture(scope="module")
def bundle(runs: tuple[Run, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "bundle"
    main, other = runs
    arms = [PlannedArm(ARM, 0.4, other), PlannedArm("holdout", 0.1, None)]
    further = plan_experiment("spring", arms, main, main.data.dataset)
    write_bundle(
        main,
        out,
        further=further,
        check=lambda folder: check_bundle(folder, main, arms={ARM: other}),
    )
    return out


@pytest.fixture(scope="module")
def alone(runs: tuple[Run, Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the challenger's run, as if there were no other."""
    out = tmp_path_factory.mktemp("alone") / "bundle"
    write_bundle(runs[1], out, check=lambda _: None)
    return out


def everybody(folder: Path) -> list[str]:
    return [c for block in read_bundle(folder).customers() for c in block.customer_ids]


def ask(home: Path, customers: list[str], **asked: Any) -> dict[str, Answer]:
    recommender = Recommender.open(home)
    found = {each: recommender.recommend(each, **asked) for each in customers}
    assert recommender.warnings == []
    recommender.close()
    return found


# --- what is written


def test_an_arm_s_files_are_those_of_a_release_of_its_run_alone(bundle: Path, alone: Path) -> None:
    """But for the release's name in the graphs."""
    manifest, its_own = read_bundle(bundle).manifest, read_bundle(alone).manifest
    (arm,) = manifest.own_arms
    for name in ("items.safetensors", "golden.safetensors"):
        assert manifest.files[f"{ARM}.{name}"].sha256 == its_own.files[name].sha256
    seen = manifest.of_arm(arm)
    assert (seen.space, seen.calibration) == (its_own.space, its_own.calibration)
    assert (seen.attention, seen.embedding_size) == ("sigmoid", 12)
    assert seen.calibration is not None
    assert manifest.experiment is not None
    shares = {arm.name: arm.share for arm in manifest.experiment.arms}
    assert shares == {"main": 0.5, ARM: 0.4, "holdout": 0.1}


def test_the_release_s_own_space_is_the_main_model_s(bundle: Path, runs: tuple[Run, Run]) -> None:
    manifest = read_bundle(bundle).manifest
    assert manifest.space == space_of_run(runs[0])
    assert manifest.of_arm(manifest.own_arms[0]).space == space_of_run(runs[1])


def test_another_share_is_another_release(runs: tuple[Run, Run], tmp_path: Path) -> None:
    main, names = runs[0], set()
    for number, share in enumerate((None, 0.1, 0.1, 0.2)):
        arms = [PlannedArm("holdout", share or 0, None)]
        data = main.data.dataset
        further = plan_experiment("spring", arms, main, data) if share else None
        out = tmp_path / str(number)
        names.add(write_bundle(main, out, further=further, check=lambda _: None).release)
    assert len(names) == 3


def test_nobody_s_vector_is_in_an_arm_s_files(bundle: Path, runs: tuple[Run, Run]) -> None:
    """A golden customer of an arm outlives everybody's erasure."""
    golden = load_file(bundle / f"{ARM}.golden.safetensors")["components"]
    real = load_file(bundle / "customers.safetensors")["components"]
    assert real.shape[2] == 8
    from c2rec.export.bundle import encode_all

    with torch.inference_mode():
        theirs, _ = encode_all(runs[1].model, runs[1].data.index)
    rows = {row.tobytes() for row in theirs}
    assert not any(row.tobytes() in rows for row in golden)


# --- what a kiosk answers


def test_an_arm_is_answered_as_a_release_of_its_run_alone_would_be(
    bundle: Path, alone: Path, tmp_path: Path
) -> None:
    """The same items, attention and reasons; scores within what graphs may differ by."""
    install(bundle, tmp_path / "home")
    install(alone, tmp_path / "alone")
    customers = everybody(bundle)
    assert everybody(alone) == customers
    compared = 0
    for channel in CHANNELS:
        expected = ask(tmp_path / "alone", customers, channel=channel)
        for customer, answer in ask(tmp_path / "home", customers, channel=channel).items():
            if answer.arm != f"spring/{ARM}":
                continue
            other = expected[customer]
            assert (answer.tier, len(answer.items)) == (other.tier, len(other.items))
            assert answer.model == (ARM if answer.tier == "personal" else None)
            for got, wanted in zip(answer.items, other.items, strict=True):
                assert (got.item_id, got.reason) == (wanted.item_id, wanted.reason)
                assert got.score == pytest.approx(wanted.score, abs=1e-5, rel=1e-5)
                assert got.attention.shared == pytest.approx(wanted.attention.shared, abs=1e-5)
            compared += 1
    assert compared > 100


def test_the_shares_are_kept_among_the_customers(bundle: Path, tmp_path: Path) -> None:
    install(bundle, tmp_path / "home")
    answers = ask(tmp_path / "home", everybody(bundle), k=1).values()
    for arm, share in (("main", 0.5), (ARM, 0.4), ("holdout", 0.1)):
        found = sum(answer.arm == f"spring/{arm}" for answer in answers) / len(answers)
        assert found == pytest.approx(share, abs=0.08)


# --- what is refused


def test_a_table_of_customers_is_no_arm(runs: tuple[Run, Run], data: Path, tmp_path: Path) -> None:
    table = fit(tmp_path / "table", data, ModelConfig(embedding_size=8, encoder="table"))
    arms = [PlannedArm(ARM, 0.5, table)]
    message = r"arm challenger: .*table was fitted with --encoder table; allowed: history"
    with pytest.raises(ReleaseError, match=message):
        plan_experiment("spring", arms, runs[0], runs[0].data.dataset)
    # the other way round is fine
    further = plan_experiment("spring", [PlannedArm(ARM, 0.5, runs[0])], table, table.data.dataset)
    write_bundle(
        table,
        tmp_path / "bundle",
        further=further,
        check=lambda folder: check_bundle(folder, table, arms={ARM: runs[0]}),
    )


def test_a_model_of_two_components_is_no_arm(runs: tuple[Run, Run]) -> None:
    other = replace(runs[1], model=load_run(runs[1].folder).model)
    other.model.config = replace(other.model.config, components=2)
    with pytest.raises(ReleaseError, match=r"was fitted with --components 2, .* takes 3"):
        plan_experiment("a", [PlannedArm(ARM, 0.5, other)], runs[0], runs[0].data.dataset)


def test_a_model_of_other_items_is_no_arm(
    runs: tuple[Run, Run], data: Path, tmp_path: Path
) -> None:
    fewer = fit(
        tmp_path / "fewer", drop_an_item(data, tmp_path / "data"), ModelConfig(embedding_size=8)
    )
    arms, message = [PlannedArm(ARM, 0.5, fewer)], r"arm challenger: .*fewer ranks \d+ items and .*"
    with pytest.raises(
        ReleaseError, match=message + r"'P0000000' is in .*main alone; allowed: the sa"
    ):
        plan_experiment("spring", arms, runs[0], runs[0].data.dataset)


def drop_an_item(data: Path, out: Path) -> Path:
    first = read_dataset(data).transactions["item_id"].min()
    out.mkdir()
    for name in ("transactions", "items"):
        table = pl.read_parquet(data / f"{name}.parquet")
        table.filter(pl.col("item_id") != first).write_parquet(out / f"{name}.parquet")
    return out


@pytest.mark.parametrize(
    ("name", "arms", "message"),
    [
        ("spring", {"a": 0.5, "b": 0.5}, r"shares of the arms sum up to 1; allowed: less than 1"),
        ("spring", {"main": 0.5}, r"serves is 'popular'; allowed: 'main' for the arm 'main'"),
        ("spring", {"A": 0.5}, r"arms\[1\]\.name is 'A'; allowed"),
        ("Spring sale", {"a": 0.5}, r"experiment\.name is 'Spring sale'; allowed: 1 to 40 of"),
        ("spring", {str(n): 0.05 for n in range(10)}, r"experiment\.arms is 11; allowed: 2 to 10"),
        ("spring", {"a": 0.00001}, r"arms\[1\]\.share is 1e-05; allowed: a number from 0\.0001"),
    ],
)
def test_a_plan_that_can_not_be_is_refused(
    runs: tuple[Run, Run], name: str, arms: dict[str, float], message: str
) -> None:
    planned = [PlannedArm(arm, share, None) for arm, share in arms.items()]
    with pytest.raises(ReleaseError, match=message):
        plan_experiment(name, planned, runs[0], runs[0].data.dataset)


@pytest.mark.parametrize(
    ("file", "tensor", "message"),
    [
        ("golden", "top_scores", r"arm challenger: golden customer 0, channel offline: scores dif"),
        ("items", "item_bias", r"arm challenger: golden|'item_bias' is not what the run"),
        ("items", "popularity", r"challenger\.items\.safetensors: tensor 'popularity' is not what"),
    ],
)
def test_check_refuses_an_arm_that_is_not_what_its_run_says(
    bundle: Path, runs: tuple[Run, Run], tmp_path: Path, file: str, tensor: str, message: str
) -> None:
    copied = Path(shutil.copytree(bundle, tmp_path / "copied"))
    change_tensor(copied, f"{ARM}.{file}.safetensors", tensor, lambda values: values + 1)
    with pytest.raises(ReleaseError, match=message):
        check_bundle(copied, runs[0], arms={ARM: runs[1]})


def test_check_against_another_run_or_arm_is_refused(bundle: Path, runs: tuple[Run, Run]) -> None:
    with pytest.raises(ReleaseError, match=r"challenger\.items\.safetensors: tensor .* is not"):
        check_bundle(bundle, runs[0], arms={ARM: runs[0]})
    with pytest.raises(ReleaseError, match=r"no arm 'holdout' with a model .*; it has: challenger"):
        check_bundle(bundle, runs[0], arms={"holdout": runs[1]})


# --- the commands


def export(*arguments: object, code: int = 0) -> Result:
    """Run ``c2rec-export`` with its errors as messages."""
    result = CliRunner().invoke(click.Command("c2rec-export", callback=lambda: main(arguments)), [])
    assert result.exit_code == code, result.output
    return result


def main(arguments: tuple[object, ...]) -> None:
    with errors_to_exit("export"):
        cli.main([str(each) for each in arguments], standalone_mode=False)


def test_the_commands_write_and_check_an_experiment(
    runs: tuple[Run, Run], bundle: Path, tmp_path: Path
) -> None:
    main, other, out = runs[0].folder, runs[1].folder, tmp_path / "bundle"
    arms = ["--arm", f"{ARM}={other}", "--share", f"{ARM}=0.4"]
    holdout = ["--arm", "holdout=popular", "--share", "holdout=0.1"]
    done = export("bundle", main, "--out", out, "--experiment", "spring", *arms, *holdout)
    assert f"checked against {main}, {other}\n" in done.stdout
    assert done.stdout.endswith("experiment spring: main 50 %, challenger 40 %, holdout 10 %\n")
    assert read_bundle(out).manifest.release == read_bundle(bundle).manifest.release
    text = export("check", out, "--against", main, "--arm", f"{ARM}={other}").stdout
    assert "arm challenger: golden answers of 32 customers in both channels are" in text
    assert text.count("random requests: scores differ from PyTorch's by at most") == 2
    document = json.loads(export("check", out, "--json").stdout)
    assert document["experiment"] == "spring"
    assert document["arms"] == {ARM: {"golden": 32, "parity": None}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--experiment", "a"], "--arm for none, --share for none"),
        (["--arm", "b=popular", "--share", "b=0.5"], "given: --experiment not, --arm for b"),
        (["--experiment", "a", "--arm", "b=popular"], "--arm for b, --share for none"),
        (["--experiment", "a", "--share", "b=0.5"], "--arm for none, --share for b"),
        (
            ["--experiment", "a", "--arm", "b=popular", "--share", "c=0.5"],
            "--arm for b, --share for c",
        ),
        (["--experiment", "a", "--arm", "b"], "--arm: 'b'; allowed: NAME=VALUE"),
        (["--experiment", "a", "--arm", "=popular"], "--arm: '=popular'; allowed: NAME=VALUE"),
        (["--experiment", "a", "--arm", "b=x", "--arm", "b=y"], "--arm: 'b' is given twice"),
        (["--experiment", "a", "--arm", "b=popular", "--share", "b=x"], "b=x; allowed: a number"),
        (["--experiment", "a", "--arm", "b=popular", "--share", "b=nan"], "b=nan; allowed: a num"),
        (["--experiment", "a", "--arm", "b=popular", "--share", "b=1"], "b=1; allowed: a number"),
    ],
)
def test_options_that_say_half_are_refused_before_anything_is_read(
    tmp_path: Path, given: list[str], said: str
) -> None:
    done = export("bundle", tmp_path / "no run", "--out", tmp_path / "out", *given, code=2)
    assert said in " ".join(done.stderr.split())


def test_what_only_a_run_can_tell_is_one_clear_line(runs: tuple[Run, Run], tmp_path: Path) -> None:
    main, out = runs[0].folder, tmp_path / "out"
    given = ["--experiment", "a", "--arm", f"b={tmp_path / 'none'}", "--share", "b=0.5"]
    done = export("bundle", main, "--out", out, *given, code=1)
    assert "none" in done.stderr
    assert done.stderr.count("\n") == 1
    given = ["--experiment", "a", "--arm", "B=popular", "--share", "B=0.5"]
    done = export("bundle", main, "--out", out, *given, code=1)
    assert "name is 'B'; allowed: 1 to 40 of a–z 0–9 -" in done.stderr
    assert not out.exists()
    done = export("check", out, "--arm", f"b={main}", code=2)
    assert "give --against RUN too" in done.stderr


# --- the whole round


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return make_office(tmp_path)


def test_every_event_of_a_visit_carries_the_arm_to_head_office(
    bundle: Path, office: Office, tmp_path: Path
) -> None:
    repo, home = tmp_path / "repo", tmp_path / "home"
    publish(bundle, repo, office.keys)
    home.mkdir()
    identity_path(home).write_text(office.keys.identity("S001", "k1").to_json())
    (home / "root.json").write_bytes(office.keys.roots()[0])
    settings = Settings(repository=str(repo)).to_toml()
    (home / SETTINGS).write_text(f'{settings}events = "{office.inbox}"\n')

    def kiosk(*arguments: str) -> Any:
        result = CliRunner().invoke(kiosk_main, ["--home", str(home), *arguments, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    assert kiosk("sync")["outcome"] == "installed"
    expected, shares = {}, {"main": 0.5, ARM: 0.4, "holdout": 0.1}
    by_arm: dict[str, list[str]] = {arm: [] for arm in shares}
    for customer in everybody(bundle):
        name = pseudonym(office.keys.customer_key, customer).hex()
        by_arm[assign("spring", shares, name)].append(customer)
    for customer in [each for theirs in by_arm.values() for each in theirs[:3]]:
        told = kiosk("recommend", customer, "-k", "2")
        model = told["model"]
        said = ["--customer", customer, "--arm", told["arm"], "--release", told["release"]]
        said += ["--tier", told["tier"]] + (["--model", model] if model else [])
        items = [item["item_id"] for item in told["items"]]
        kiosk("record", "shown", *items, *said)
        kiosk("record", "bought", items[0], *said)
        expected[customer] = (told["arm"], model)
    assert {arm for arm, _ in expected.values()} == {f"spring/{arm}" for arm in shares}
    assert kiosk("queue", "--send")["error"] is None
    office.collect(customers={})
    rows = pl.read_parquet(office.out / "impressions.parquet")
    assert rows.height == 3 * len(expected) == 27
    for customer, (arm, model) in expected.items():
        name = pseudonym(office.keys.customer_key, customer).hex()
        theirs = rows.filter(pl.col("customer_id") == name)
        assert theirs.select("kind", "arm", "model").unique().sort("kind").rows() == [
            ("bought", arm, model),
            ("shown", arm, model),
        ]


def test_newer_purchases_count_for_every_arm(
    runs: tuple[Run, Run], bundle: Path, tmp_path: Path
) -> None:
    """What sells is told by all that the release knows; the arm's own data may end before."""
    main, other = runs
    table = main.data.dataset.transactions
    (tmp_path / "newer").mkdir()
    last = table.sort("timestamp").tail(5).with_columns(pl.col("timestamp").dt.offset_by("1d"))
    last.write_parquet(tmp_path / "newer" / "transactions.parquet")
    known = with_newer(main, tmp_path / "newer")
    further = plan_experiment("spring", [PlannedArm(ARM, 0.4, other)], main, known)
    out = tmp_path / "today"
    write_bundle(
        main,
        out,
        data=known,
        further=further,
        check=lambda folder: check_bundle(folder, main, known, arms={ARM: other}),
    )
    before, after = (read_bundle(folder).manifest for folder in (bundle, out))
    assert before.of_arm(before.own_arms[0]).space == after.of_arm(after.own_arms[0]).space
    name = f"{ARM}.items.safetensors"
    one, two = (load_file(folder / name) for folder in (bundle, out))
    assert (one["popularity"] != two["popularity"]).any()
