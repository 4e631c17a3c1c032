"""c2rec-train and c2rec-export as their users meet them: exit codes, messages, documents."""

import io
import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from c2rec.export.cli import main as export
from c2rec.train.checkpoint import read_tensors
from c2rec.train.cli import main as train
from c2rec.train.commands.options import progress
from c2rec.train.config import read_config
from c2rec.train.report import ConsoleReporter
from c2rec.train.run import load_run
from c2rec.train.simulate import simulate

FIT = ("--epochs", "2", "--threads", "1", "--embedding-size", "8", "--min-interactions", "3")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate(folder, customers=200, items=60, days=40, seed=1)
    return folder


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fitted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        assert call(train, patch, "fit", str(data), "--out", str(out), *FIT) == 0
    return out


@pytest.fixture
def run(fitted: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted, tmp_path / "run"))


def call(program: Callable[[], None], patch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run a program in this process and return its exit code."""
    patch.setattr("sys.argv", ["program", *arguments])
    with pytest.raises(SystemExit) as exited:
        program()
    assert isinstance(exited.value.code, int | None)
    return exited.value.code or 0


def dataset(folder: Path, table: pl.DataFrame) -> Path:
    folder.mkdir()
    table.write_parquet(folder / "transactions.parquet")
    return folder


def table_of(data: Path) -> pl.DataFrame:
    return pl.read_parquet(data / "transactions.parquet")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.rename({"channel": "Channel"}), "column 'channel' is missing"),
        (lambda t: t.with_columns(channel=pl.lit("shop")), "channel is 'shop'"),
        (lambda t: t.with_columns(timestamp=pl.lit("yesterday")), "timestamp is 'yesterday'"),
        (lambda t: t.with_columns(price=pl.lit(float("nan"))), "price is 'NaN'"),
        (lambda t: pl.concat([t, t.head(1)]), "the same as row 1"),
        (lambda t: t.clear(), "no rows"),
        (lambda t: t.filter(pl.col("channel") == "offline"), "no online purchase in training"),
        (lambda t: t.filter(pl.col("customer_id") == t["customer_id"][0]), "--min-interactions"),
        (lambda t: t.filter(pl.col("timestamp").dt.date() == t["timestamp"][0].date()), "spans 1"),
    ],
)
def test_fit_names_what_is_wrong_with_the_data_and_makes_no_run(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[pl.DataFrame], pl.DataFrame],
    message: str,
) -> None:
    folder = dataset(tmp_path / "bad", change(table_of(data)))
    arguments = ("fit", str(folder), "--out", str(tmp_path / "run"), *FIT)
    assert call(train, monkeypatch, *arguments) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Error: ")
    assert message in printed.err
    assert not (tmp_path / "run").exists()


def test_sigterm_after_the_last_epoch_is_what_ctrl_c_is(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def stop(_reporter: ConsoleReporter, _text: str) -> None:
        signal.raise_signal(signal.SIGTERM)

    arguments = ("fit", str(data), "--out", str(tmp_path / "run"), *FIT)
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        patch.setattr(ConsoleReporter, "stage", stop)
        assert call(train, patch, *arguments) == 130
    assert "Stopped, and saved; run the same command again" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
    assert not (tmp_path / "run" / "model.safetensors").exists()
    assert call(train, monkeypatch, *arguments) == 0
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_validation_period_without_rows_is_named(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = table_of(data)
    last = table["timestamp"].max()
    gap = pl.col("timestamp").is_between(
        pl.lit(last) - pl.duration(days=20), pl.lit(last) - pl.duration(days=5)
    )
    folder = dataset(tmp_path / "gap", table.filter(~gap))
    arguments = ("fit", str(folder), "--out", str(tmp_path / "run"), *FIT)
    assert call(train, monkeypatch, *arguments) == 1
    assert "validation" in capsys.readouterr().err


def test_a_test_period_without_known_customers_is_named(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table = table_of(data)
    day = pl.col("timestamp").dt.date()
    strangers = pl.when(day > day.max() - pl.duration(days=7)).then(
        pl.format("new-{}", pl.col("customer_id"))
    )
    table = table.with_columns(customer_id=strangers.otherwise(pl.col("customer_id")))
    folder, out = dataset(tmp_path / "new", table), str(tmp_path / "run")
    assert (
        call(train, monkeypatch, "fit", str(folder), "--out", out, "--valid-days", "0", *FIT) == 0
    )
    capsys.readouterr()
    assert call(train, monkeypatch, "evaluate", out) == 1
    assert "no test row has a customer and an item known" in capsys.readouterr().err


def test_validate_tells_a_machine_what_it_tells_a_person(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wrong = pl.int_range(pl.len()).is_in([1, 7])
    table = table_of(data).with_columns(
        channel=pl.when(wrong).then(pl.lit("shop")).otherwise(pl.col("channel"))
    )
    folder = dataset(tmp_path / "bad", table)
    assert call(train, monkeypatch, "validate", str(folder), "--json") == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert [problem["row"] for problem in document["problems"]] == [2, 8]
    assert call(train, monkeypatch, "validate", str(folder)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for line, problem in zip(lines, document["problems"], strict=True):
        for part in (problem["file"], f"row {problem['row']}", problem["column"], "'shop'"):
            assert part in line
        assert problem["allowed"] in line


def test_validate_says_what_good_data_holds(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(train, monkeypatch, "validate", str(data), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is True
    assert document["facts"]["transactions"] == table_of(data).height


def test_the_same_fit_again_changes_nothing(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert call(train, monkeypatch, "fit", str(data), "--out", str(run), *FIT) == 0
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_another_fit_into_a_run_is_refused_and_restart_replaces_it(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = ("fit", str(data), "--out", str(run), *FIT, "--seed", "2")
    before = (run / "model.safetensors").read_bytes()
    assert call(train, monkeypatch, *other) == 1
    assert "another seed (it has 1, you asked for 2)" in capsys.readouterr().err
    assert (run / "model.safetensors").read_bytes() == before
    assert call(train, monkeypatch, *other, "--restart") == 0
    assert (run / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize("more", [(), ("--restart",)])
def test_a_folder_with_other_things_is_left_alone(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...],
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    arguments = ("fit", str(data), "--out", str(tmp_path / "mine"), *FIT, *more)
    assert call(train, monkeypatch, *arguments) == 1
    assert "not empty and holds no run" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_evaluate_prints_one_document_or_tables(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(train, monkeypatch, "evaluate", str(run), "--json", "-k", "5") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["k"] == 5
    for protocol in (document, document["with_repeats"]):
        assert set(protocol["channels"]) == {"offline", "online"}
        assert set(protocol["baselines"]) == {"popularity", "recent-popularity"}
    for counts in document["cold"].values():
        assert counts["rows"] >= counts["unknown_customer"] + counts["unknown_item"]
    assert call(train, monkeypatch, "evaluate", str(run)) == 0
    assert "offline NDCG@10" in capsys.readouterr().out


def test_bundle_and_check_through_the_command_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = str(tmp_path / "bundle")
    assert call(export, monkeypatch, "bundle", str(run), "--out", bundle) == 0
    assert call(export, monkeypatch, "bundle", str(run), "--out", bundle) == 1
    assert "is there already" in capsys.readouterr().err
    assert call(export, monkeypatch, "check", bundle, "--against", str(run), "--json") == 0
    assert json.loads(capsys.readouterr().out)["parity"]["requests"] == 512
    (tmp_path / "bundle" / "items.jsonl").write_text("")
    assert call(export, monkeypatch, "check", bundle) == 1
    assert "items.jsonl has 0 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("more", [(), ("--restart",)])
def test_somebody_elses_config_and_model_are_left_alone(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"architectures": ["Other"]}')
    (other / "model.safetensors").write_bytes(b"precious")
    assert call(train, monkeypatch, "fit", str(data), "--out", str(other), *FIT, *more) == 1
    assert (other / "model.safetensors").read_bytes() == b"precious"


def test_a_run_that_is_not_finished_is_neither_evaluated_nor_exported(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "model.safetensors").unlink()
    for program, arguments in (
        (train, ["evaluate", str(run)]),
        (export, ["bundle", str(run), "--out", str(tmp_path / "bundle")]),
    ):
        assert call(program, monkeypatch, *arguments) == 1
        assert "is not finished; run the same" in capsys.readouterr().err
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run: (run / "best.safetensors").unlink(), "has lost its best.safetensors"),
        (lambda run: drop_tensor(run, "optimizer/item_bias.weight/exp_avg"), "is not whole"),
        (lambda run: drop_tensor(run, "model/gain"), "doesn't fit"),
        (lambda run: (run / "checkpoint.safetensors").write_bytes(b"junk"), "can't be read"),
        (lambda run: (run / "config.json").write_bytes(b"[" * 100_000), "can't be read"),
    ],
)
def test_a_damaged_run_is_not_gone_on_with(
    data: Path,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], object],
    message: str,
) -> None:
    damage(run)
    assert call(train, monkeypatch, "fit", str(data), "--out", str(run), *FIT) == 1
    assert message in capsys.readouterr().err


def drop_tensor(run: Path, name: str) -> None:
    from c2rec.train.checkpoint import read_tensors, write_tensors

    tensors, state = read_tensors(run / "checkpoint.safetensors")
    del tensors[name]
    write_tensors(run / "checkpoint.safetensors", tensors, state)


def test_a_second_fit_into_a_run_waits_for_nobody(
    data: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from c2rec.train.run import only_fit

    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with only_fit(run):
        for extra in ((), ("--restart",), ("--restart", "--seed", "9")):
            arguments = ("fit", str(data), "--out", str(run), *FIT, *extra)
            assert call(train, monkeypatch, *arguments) == 1
            assert "another fit is running there" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


@pytest.mark.parametrize(
    "bad",
    [
        ("--out", ""),
        ("--learning-rate", "nan"),
        ("--learning-rate", "inf"),
        ("--weight-decay", "nan"),
        ("--threads", "100000"),
        ("--seed", str(2**64)),
        ("--epochs", "0"),
        ("--encoder", "magic"),
    ],
)
def test_a_number_out_of_range_is_wrong_usage(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: tuple[str, str]
) -> None:
    arguments = ("fit", str(data), "--out", str(tmp_path / "run"), *bad)
    assert call(train, monkeypatch, *arguments) == 2
    assert not (tmp_path / "run").exists()


def test_weights_that_explode_after_the_last_step_are_no_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss is taken before a step, so the last one's harm shows in the scores alone."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        from c2rec.train.commands import options

        patch.setattr(options.Finite, "convert", lambda self, value, param, ctx: float(value))
        arguments = ("fit", str(data), "--out", str(out), *FIT, "--batch-size", "9999")
        assert call(train, patch, *arguments, "--learning-rate", "1e30") == 1
    assert "try a --learning-rate below" in capsys.readouterr().err
    assert not (out / "model.safetensors").exists()
    assert call(train, monkeypatch, "evaluate", str(out)) == 1


# --- refit


def test_a_refit_takes_options_epochs_and_blend_from_the_run_and_uses_all_days(
    data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "latest"
    assert call(train, monkeypatch, "fit", str(data), "--out", str(out), "--refit", str(run)) == 0
    before, after = read_config(run), read_config(out)
    assert (after.split.valid_days, after.split.test_days) == (0, 0)
    assert after.split.min_interactions == before.split.min_interactions
    assert after.model == before.model
    _, state = read_tensors(run / "model.safetensors")
    assert after.training == replace(before.training, epochs=state["epoch"])
    _, latest = read_tensors(out / "model.safetensors")
    assert latest["blended"]["blend"] == state["blended"]["blend"]
    assert latest["blended"]["after"] == {"offline": None, "online": None}
    assert len(load_run(out).data.split.train.items) > len(load_run(run).data.split.train.items)


def test_what_refit_decides_can_t_be_asked_for_otherwise(
    data: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    refit = ("fit", str(data), "--out", str(tmp_path / "new"), "--refit", str(run))
    assert call(train, monkeypatch, *refit, "--epochs", "3") == 2
    assert "--epochs can't go with --refit" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_refit_needs_a_finished_run_that_chose_something(
    data: Path,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    latest, more = str(tmp_path / "latest"), str(tmp_path / "more")
    fit = ("fit", str(data), "--out")
    assert call(train, monkeypatch, *fit, latest, "--refit", str(run)) == 0
    assert call(train, monkeypatch, *fit, more, "--refit", latest) == 1
    assert "had no validation days to choose anything by" in capsys.readouterr().err
    (run / "model.safetensors").unlink()
    assert call(train, monkeypatch, *fit, more, "--refit", str(run)) == 1
    assert "is not finished" in capsys.readouterr().err
    assert not (tmp_path / "more").exists()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_one_line_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, file = Terminal(), io.StringIO()
    for stream in (terminal, file):
        monkeypatch.setattr("sys.stderr", stream)
        with progress() as report:
            report("reading")
            report("writing")
    assert terminal.getvalue() == "\r\x1b[Kreading\r\x1b[Kwriting\r\x1b[K"
    assert file.getvalue() == ""
