"""The search for settings: the same however often it is stopped, and nothing of it is lost."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from c2rec.runtime.errors import RunError
from c2rec.train import loop
from c2rec.train.checkpoint import read_tensors
from c2rec.train.cli import main
from c2rec.train.config import ModelConfig, RunConfig, SplitConfig, TrainingConfig, read_config
from c2rec.train.run import load_run
from c2rec.train.simulate import simulate
from c2rec.train.space import SPACE, Range, configured, defaults
from c2rec.train.transactions import Dataset, read_dataset
from c2rec.train.tune import TrialResult, Tuning, tune

SPLIT = ("--valid-days", "5", "--test-days", "5", "--min-interactions", "3", "--threads", "1")


class Lines:
    """The production interface; keeps what is said, and acts at an epoch."""

    def __init__(
        self, stop_at: tuple[int, int] | None = None, crash_at: tuple[int, int] | None = None
    ) -> None:
        self.lines: list[str] = []
        self._stop_at = stop_at
        self._crash_at = crash_at
        self._trial = -1

    def unit(self, phase: str, number: int, units: int, what: str) -> None:
        self._trial = number - 1
        self.lines.append(f"{phase} {number}/{units}: {what}")

    def note(self, text: str) -> None:
        self.lines.append(text)

    def step(self, epoch: int, done: int, steps: int) -> None:
        if self._stop_at == (self._trial, epoch):
            signal.raise_signal(signal.SIGTERM)

    def epoch(self, log: loop.EpochLog) -> None:
        if self._crash_at == (self._trial, log.epoch):
            raise ZeroDivisionError

    def stage(self, text: str) -> None:
        pass

    def share(self, done: int, of: int) -> None:
        pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate(folder, customers=150, items=50, days=40, seed=1)
    return folder


@pytest.fixture(scope="module")
def dataset(data: Path) -> Dataset:
    return read_dataset(data)


def base_of(data: Path, dataset: Dataset, **training: Any) -> RunConfig:
    return RunConfig(
        data=str(data),
        fingerprint=dataset.fingerprint,
        split=SplitConfig(valid_days=5, test_days=5, min_interactions=3),
        model=ModelConfig(),
        training=replace(TrainingConfig(epochs=5, threads=1), **training),
    )


def search(
    data: Path,
    dataset: Dataset,
    folder: Path,
    trials: int,
    *,
    reporter: Lines | None = None,
    seconds: float | None = None,
    restart: bool = False,
    **training: Any,
) -> Tuning:
    return tune(
        dataset,
        folder,
        base_of(data, dataset, **training),
        trials=trials,
        seconds=seconds,
        restart=restart,
        reporter=reporter or Lines(),
    )


@pytest.fixture(scope="module")
def through(data: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A search that nothing interrupted, past the random trials and with pruned ones."""
    return search(data, dataset, tmp_path_factory.mktemp("through") / "out", 12)


def told(trials: list[TrialResult]) -> list[dict[str, Any]]:
    """All that is known of trials but for where they are."""
    return [{**asdict(each), "run": each.run.name} for each in trials]


# --- what is searched over


def test_the_defaults_are_in_the_ranges_and_are_put_back_as_they_were(
    data: Path, dataset: Dataset
) -> None:
    base = base_of(data, dataset)
    values = defaults(base)
    assert values.keys() == SPACE.keys()
    for name, each in SPACE.items():
        assert each.low <= values[name] <= each.high
    assert configured(base, values) == base


def test_every_value_reaches_the_configuration(data: Path, dataset: Dataset) -> None:
    base = base_of(data, dataset)
    for name, each in SPACE.items():
        values = defaults(base) | {name: each.high}
        assert defaults(configured(base, values)) == values


# --- a search


def test_the_first_trial_is_the_defaults_and_the_best_is_no_worse(
    data: Path, dataset: Dataset, through: Tuning
) -> None:
    first = through.trials[0]
    assert read_config(first.run) == base_of(data, dataset)
    assert through.best.ndcg is not None
    assert first.ndcg is not None
    assert through.best.ndcg >= first.ndcg
    assert through.best.ndcg == max(each.ndcg or 0 for each in through.trials)


def test_the_figure_of_a_trial_is_its_finished_model_s(through: Tuning) -> None:
    for trial in through.trials:
        if trial.state == "complete":
            run = load_run(trial.run)
            after = run.blended["after"]
            assert trial.channels == after
            assert trial.ndcg == (after["offline"] + after["online"]) / 2
            assert defaults(run.config) == trial.parameters


def test_of_a_pruned_trial_the_config_alone_is_kept(through: Tuning) -> None:
    pruned = [each for each in through.trials if each.state == "pruned"]
    assert pruned
    for trial in pruned:
        assert trial.number > 4
        assert trial.epochs >= 4
        assert [path.name for path in trial.run.iterdir()] == ["config.json"]
        assert defaults(read_config(trial.run)) == trial.parameters


def test_what_a_kill_left_of_a_pruned_trial_is_deleted(
    data: Path, dataset: Dataset, through: Tuning
) -> None:
    trial = next(each for each in through.trials if each.state == "pruned")
    (trial.run / "best.safetensors").write_bytes(b"left")
    assert told(search(data, dataset, trial.run.parent, 1).trials) == told(through.trials)
    assert [path.name for path in trial.run.iterdir()] == ["config.json"]


def test_stopped_in_several_trials_and_gone_on_with_the_trials_are_the_same(
    data: Path, dataset: Dataset, through: Tuning, tmp_path: Path
) -> None:
    pruned = [(each.number, each.epochs) for each in through.trials if each.state == "pruned"]
    for crash_at in ((1, 2), pruned[0]):  # the checkpoint is written, the study not told
        with pytest.raises(ZeroDivisionError):
            search(data, dataset, tmp_path / "out", 12, reporter=Lines(crash_at=crash_at))
    for stop_at in ((pruned[0][0] + 1, 2), (10, 2)):
        with pytest.raises(loop.Interrupted):
            search(data, dataset, tmp_path / "out", 12, reporter=Lines(stop_at))
    again = search(data, dataset, tmp_path / "out", 12)
    assert told(again.trials) == told(through.trials)
    assert again.importances == through.importances
    for a, b in zip(again.trials, through.trials, strict=True):
        if a.state == "complete":
            name = "model.safetensors"
            assert (a.run / name).read_bytes() == (b.run / name).read_bytes()


def test_another_seed_tries_something_else_and_more_trials_add_to_what_is_there(
    data: Path, dataset: Dataset, through: Tuning, tmp_path: Path
) -> None:
    two = search(data, dataset, tmp_path / "out", 2, seed=2, epochs=1)
    assert two.trials[1].parameters != through.trials[1].parameters
    reporter = Lines()
    three = search(data, dataset, tmp_path / "out", 3, seed=2, epochs=1, reporter=reporter)
    assert told(three.trials[:2]) == told(two.trials)
    assert [line[:10] for line in reporter.lines] == ["trying 3/3", "trial-002:"]


def test_when_the_time_is_up_the_trial_is_kept_and_gone_on_with(
    data: Path, dataset: Dataset, through: Tuning, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="no trial is complete yet; run the same command again"):
        search(data, dataset, tmp_path / "out", 2, seconds=1e-6)
    search(data, dataset, tmp_path / "out", 1)
    reporter = Lines()
    search(data, dataset, tmp_path / "out", 2, seconds=1e-6, reporter=reporter)
    assert reporter.lines == ["the time is up; the same command goes on"]
    two = search(data, dataset, tmp_path / "out", 2)
    assert told(two.trials) == told(through.trials[:2])


def test_a_trial_with_a_damaged_checkpoint_begins_anew_and_ends_the_same(
    data: Path, dataset: Dataset, through: Tuning, tmp_path: Path
) -> None:
    with pytest.raises(loop.Interrupted):
        search(data, dataset, tmp_path, 1, reporter=Lines((0, 3)))
    (tmp_path / "trial-000" / "checkpoint.safetensors").write_bytes(b"junk")
    reporter = Lines()
    again = search(data, dataset, tmp_path, 1, reporter=reporter)
    assert "trial-000: its checkpoint is damaged; it begins anew" in reporter.lines
    assert told(again.trials) == told(through.trials[:1])


def test_a_failed_trial_is_told_and_ends_nothing(
    data: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = dict(SPACE, learning_rate=Range(0.003, 1e30, log=True))
    monkeypatch.setattr("c2rec.train.tune.SPACE", diverging)
    three = search(data, dataset, tmp_path, 3, epochs=1)
    assert [each.state for each in three.trials] == ["complete", "fail", "fail"]
    assert three.best.number == 0
    for each in three.trials[1:]:
        assert each.failed is not None
        assert "not finite" in each.failed


def test_a_search_in_which_all_trials_fail_is_an_error(
    data: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diverging = dict(SPACE, learning_rate=Range(9e29, 1e30, log=True))
    with monkeypatch.context() as patch:
        patch.setattr("c2rec.train.tune.SPACE", diverging)
        patch.setattr(
            "c2rec.train.tune.defaults", lambda base: defaults(base) | {"learning_rate": 1e30}
        )
        reporter = Lines()
        with pytest.raises(RunError, match="all 2 trials failed; the last one: the scores are not"):
            search(data, dataset, tmp_path / "all", 2, reporter=reporter)
    assert reporter.lines[1].startswith("trial-000: failed: the scores are not finite")
    for trial in ("trial-000", "trial-001"):
        assert [path.name for path in (tmp_path / "all" / trial).iterdir()] == ["config.json"]


# --- bad input


def test_a_search_without_validation_days_is_refused(
    data: Path, dataset: Dataset, tmp_path: Path
) -> None:
    base = base_of(data, dataset)
    base = replace(base, split=replace(base.split, valid_days=0))
    with pytest.raises(RunError, match="nothing to choose by; set --valid-days"):
        tune(dataset, tmp_path, base, trials=1, seconds=None, restart=False, reporter=Lines())
    assert not list(tmp_path.iterdir())


@pytest.fixture
def one(data: Path, dataset: Dataset, tmp_path: Path) -> Path:
    """The folder of a search of one short trial."""
    search(data, dataset, tmp_path / "one", 1, epochs=1)
    return tmp_path / "one"


def test_another_search_is_refused_until_it_is_thrown_away(
    data: Path, dataset: Dataset, one: Path
) -> None:
    with pytest.raises(RunError, match=r"another seed \(it has 1, you asked for 3\)"):
        search(data, dataset, one, 1, epochs=1, seed=3)
    with pytest.raises(RunError, match=r"another epochs \(it has 1, you asked for 2\)"):
        search(data, dataset, one, 1, epochs=2)
    other = replace(dataset, fingerprint="0" * 64)
    with pytest.raises(RunError, match=r"another dataset \(its files have changed\)"):
        search(data, other, one, 1, epochs=1)
    model = (one / "trial-000" / "model.safetensors").read_bytes()
    search(data, dataset, one, 1, epochs=1, seed=3, restart=True)
    assert (one / "trial-000" / "model.safetensors").read_bytes() != model


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_with_other_things_is_left_alone(
    data: Path, dataset: Dataset, tmp_path: Path, restart: bool
) -> None:
    (tmp_path / "trial-000").mkdir()
    (tmp_path / "trial-000" / "thesis.txt").write_text("years")
    with pytest.raises(RunError, match="is not empty and holds no search"):
        search(data, dataset, tmp_path, 1, restart=restart)
    assert [path.name for path in tmp_path.rglob("*")] == ["trial-000", "thesis.txt"]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def of_nothing(path: Path) -> None:
    path.write_bytes(b"")


def of_other_settings(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE trial_params SET param_name = 'x' WHERE param_name = 'pooling'")
    database.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(b"junk" * 1000), "can't be read or written: file is not a"),
        (cut_short, "can't be read or written: "),
        (of_nothing, "knows nothing of trial-000; restore it, or begin anew with --restart"),
        (Path.unlink, "has lost its study.db; restore it, or begin anew with --restart"),
        (of_other_settings, "is not of this search"),
    ],
)
def test_a_damaged_study_is_named_and_restart_helps(
    data: Path, dataset: Dataset, one: Path, damage: Any, message: str
) -> None:
    damage(one / "study.db")
    with pytest.raises(RunError, match=message):
        search(data, dataset, one, 1, epochs=1)
    assert (one / "trial-000" / "model.safetensors").exists()
    assert search(data, dataset, one, 1, epochs=1, restart=True).best.number == 0


def test_a_folder_with_an_odd_name_will_do(data: Path, dataset: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "50 %20 of? it#é"
    assert search(data, dataset, folder, 1, epochs=1).best.run == folder / "trial-000"
    assert (folder / "study.db").exists()


# --- the command


def call(patch: pytest.MonkeyPatch, *arguments: str) -> int:
    patch.setattr("sys.argv", ["c2rec-train", *arguments])
    with pytest.raises(SystemExit) as exited:
        main()
    assert isinstance(exited.value.code, int | None)
    return exited.value.code or 0


def test_killed_in_mid_trial_the_command_goes_on_with_it_and_prints_what_it_found(
    data: Path,
    through: Tuning,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    arguments = ["tune", str(data), "--out", out, "--trials", "3", "--epochs", "5", *SPLIT]
    start = "from c2rec.train import loop\nloop.CHECKPOINT_SECONDS = 0\n"  # a checkpoint a step
    pause = (
        "import time\n"
        "from c2rec.train.tune import _TrialReporter as R\n"
        "told = R.tell\n"
        "def tell(self, log):\n"
        "    told(self, log)\n"
        "    print(f'{self._trial.number} {log.epoch}', flush=True)\n"
        "    time.sleep(0.2)\n"
        "R.tell = tell\n"
        "from c2rec.train.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start + pause, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line == "1 3\n":
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    _, state = read_tensors(tmp_path / "out" / "trial-001" / "checkpoint.safetensors")
    assert 3 <= state["epoch"] < 5
    assert call(monkeypatch, *arguments, "--json") == 0
    printed = capsys.readouterr()
    assert "trying 1/3" not in printed.err
    assert "trying 2/3: trial-001, embedding size" in printed.err
    document = json.loads(printed.out)
    assert set(document) == {"schema", "trials", "best", "importances"}
    assert document["schema"] == 1
    assert document["best"] in document["trials"]
    assert [{**each, "run": Path(each["run"]).name} for each in document["trials"]] == told(
        through.trials[:3]
    )
    assert call(monkeypatch, *arguments) == 0
    again = capsys.readouterr()
    assert again.err == ""  # all is there
    assert "Trials: 3 (3 complete)" in again.out
    assert "the defaults" in again.out
    best = document["best"]["run"]
    assert f"c2rec-train fit {data} --refit {best} --out RUN" in again.out
    assert (
        call(monkeypatch, "fit", str(data), "--refit", best, "--out", str(tmp_path / "latest")) == 0
    )


def test_importances_are_shares_and_told_where_trials_suffice(
    data: Path, dataset: Dataset, through: Tuning, monkeypatch: pytest.MonkeyPatch
) -> None:
    from c2rec.train.report import tuning_text

    folder = through.trials[0].run.parent
    monkeypatch.setattr("c2rec.train.tune.IMPORTANCE_TRIALS", 100)
    few = search(data, dataset, folder, 1)
    assert few.importances is None
    assert "What made the difference" not in tuning_text(few, data)
    monkeypatch.setattr("c2rec.train.tune.IMPORTANCE_TRIALS", 5)
    enough = search(data, dataset, folder, 1)
    assert enough.importances is not None
    assert enough.importances.keys() == SPACE.keys()
    assert sum(enough.importances.values()) == pytest.approx(1)
    assert "What made the difference" in tuning_text(enough, data)


@pytest.mark.parametrize(
    "bad",
    [
        ("--trials", "0"),
        ("--timeout", "0"),
        ("--timeout", "nan"),
        ("--valid-days", "0"),
        ("--seed", "-1"),
        ("--out", ""),
    ],
)
def test_a_number_out_of_range_is_wrong_usage(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: tuple[str, str]
) -> None:
    assert call(monkeypatch, "tune", str(data), "--out", str(tmp_path / "out"), *bad) == 2
    assert not (tmp_path / "out").exists()


def test_a_second_search_in_the_folder_is_refused(
    data: Path, one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from c2rec.train.run import only_fit

    with only_fit(one):
        assert call(monkeypatch, "tune", str(data), "--out", str(one), *SPLIT) == 1
    assert "another fit is running there" in capsys.readouterr().err
