"""A search for better settings than the defaults, with optuna.

::

    FOLDER/tune.json    what is searched over, and on which data
    FOLDER/study.db     the trials: an optuna study in SQLite
    FOLDER/trial-NNN/   a run, as fit writes it; of a pruned or failed one its config.json alone
    FOLDER/lock         held by the search that is running

What is sought is the greatest validation NDCG@100 of the finished, blended model, the mean over
the channels, on the days that ``fit`` chooses the blend by too. A trial is pruned by
what is known before the blend, the attention's validation NDCG@10 after each epoch: where its best
so far is below the median of the finished trials at that epoch.

The first trial is the defaults, so no search ends with less than they reach in validation. A
trial's settings depend on the seed, its number and the trials before it alone, and its run goes on
from its checkpoint; so a search that was killed and started again makes the trials of one that ran
through.
"""

import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from c2rec.runtime.errors import RunError
from c2rec.train import loop
from c2rec.train.checkpoint import read_tensors
from c2rec.train.config import CONFIG, RunConfig, read_config, write_config
from c2rec.train.epochs import epochs_of
from c2rec.train.folder import opened
from c2rec.train.run import BEST, CHECKPOINT, MODEL, PreparedData, prepare
from c2rec.train.space import SPACE, Parameters, configured, defaults
from c2rec.train.transactions import Dataset

TUNE, STUDY = "tune.json", "study.db"
_NAME = "c2rec"
RANDOM_TRIALS = 10
"""Before settings are drawn from what the trials showed …"""
UNPRUNED_TRIALS = 5
"""… and before a trial is pruned: a median over fewer tells little."""
UNPRUNED_EPOCHS = 4
"""In each trial: the first epochs tell a slow learner from a poor one badly."""
IMPORTANCE_TRIALS = 10
"""Finished trials from which importances are told."""


class Reporter(loop.Reporter, Protocol):
    """Shows how a search goes, and the training in it."""

    def unit(self, phase: str, number: int, units: int, what: str) -> None:
        """Say which unit of how many of a phase is being worked on."""
        ...

    def note(self, text: str) -> None:
        """Say how a trial ended."""
        ...


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial as it ended, or as far as it came."""

    number: int
    """From 0; 0 is the defaults."""
    state: str
    """``complete``, ``pruned``, ``fail`` or ``running``: stopped, to be gone on with."""
    parameters: Parameters
    ndcg: float | None
    """Validation NDCG@100 of the blended model, mean over channels; None unless complete."""
    channels: dict[str, float | None]
    """The same per channel; empty unless complete."""
    epochs: int
    """Validated so far."""
    best_epoch: int | None
    failed: str | None
    """Why."""
    run: Path


@dataclass(frozen=True, slots=True)
class Tuning:
    """A search, as far as it came."""

    trials: list[TrialResult]
    """By number."""
    best: TrialResult
    importances: dict[str, float] | None
    """Shares of 1 per parameter, the greatest first, by PED-ANOVA (arXiv 2304.10255); None where
    too few trials are complete."""

    def document(self) -> dict[str, Any]:
        """Arrange it for JSON."""
        return {
            "schema": 1,
            "trials": [asdict(each) | {"run": str(each.run)} for each in self.trials],
            "best": asdict(self.best) | {"run": str(self.best.run)},
            "importances": self.importances,
        }


class _TimeUp(Exception):  # noqa: N818 - a limit that was met, not an error
    pass


def tune(
    dataset: Dataset,
    folder: Path,
    base: RunConfig,
    *,
    trials: int,
    seconds: float | None,
    restart: bool,
    reporter: Reporter,
) -> Tuning:
    """Make the trials that the folder doesn't hold yet.

    Args:
        dataset: checked transactions.
        folder: where trials are kept.
        base: the first trial, and of the others what isn't searched over. It has validation days.
        trials: how many in all, pruned and failed ones too.
        seconds: after so many the trial that is running is saved after its epoch; None: never.
        restart: throw away what the folder holds.
        reporter: shows progress.

    Raises:
        loop.Interrupted: SIGINT or SIGTERM came while a trial was trained; it is saved.
        DataError: nothing is left to train on.
        RunError: the folder holds something else or is damaged, there is nothing to choose by, or
            no trial is complete.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    if base.split.valid_days == 0:
        raise RunError("there is nothing to choose by; set --valid-days to 1 or more")
    data = prepare(dataset, base.split)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    everything = asdict(base)
    identity = {
        "schema": 1,
        "dataset": dataset.fingerprint,
        "valid-days": base.split.valid_days,
        "test-days": base.split.test_days,
        "min-interactions": base.split.min_interactions,
        "seed": base.training.seed,
        "threads": base.training.threads,
        "epochs": base.training.epochs,
        "patience": base.training.patience,
        "defaults": {part: everything[part] for part in ("model", "training", "blend")},
        "ranges": {name: asdict(each) for name, each in SPACE.items()},
    }
    made = [STUDY, f"{STUDY}-journal", "trial-[0-9][0-9][0-9]*"]
    with (
        opened(folder, TUNE, identity, what="search", made=made, restart=restart),
        _study(folder) as study,
    ):
        search = _Search(study, folder, base, data, deadline, reporter)
        search.run(trials)
        return search.result()


@contextmanager
def _study(folder: Path) -> Iterator[optuna.Study]:
    """Open the study, and say what is wrong with it in our own words."""
    path = folder / STUDY
    if not path.exists() and any(folder.glob("trial-*")):
        raise RunError(f"{folder}: has lost its {STUDY}; restore it, or begin anew with --restart")
    url = sqlalchemy.URL.create("sqlite", database=str(path))
    storage: optuna.storages.RDBStorage | None = None
    try:
        # the file stands between processes that follow one another, and flock between others
        storage = optuna.storages.RDBStorage(str(url))
        yield optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize",
            load_if_exists=True,
            sampler=optuna.samplers.RandomSampler(seed=0),  # never asked: see _Search._next
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=UNPRUNED_TRIALS, n_warmup_steps=UNPRUNED_EPOCHS
            ),
        )
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
        why = cause.orig if isinstance(cause, DBAPIError) else cause or error
        raise RunError(
            f"{path}: can't be read or written: {why}; if it is damaged, restore it, or begin "
            "anew with --restart"
        ) from error
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()


class _Search:
    """A search under way. The study and the runs in the folder are all that is kept."""

    def __init__(
        self,
        study: optuna.Study,
        folder: Path,
        base: RunConfig,
        data: PreparedData,
        deadline: float,
        reporter: Reporter,
    ) -> None:
        self._study = study
        self._folder = folder
        self._base = base
        self._data = data
        self._deadline = deadline
        self._reporter = reporter

    def run(self, trials: int) -> None:
        """Go on with the trial that was stopped, if one was, and make the others."""
        self._tidy()
        try:
            while True:
                stopped = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
                done = len(self._study.get_trials(deepcopy=False))
                if not stopped and done >= trials:
                    return
                if time.monotonic() > self._deadline:
                    raise _TimeUp
                self._try(stopped[0] if stopped else self._next(done), trials)
        except _TimeUp:
            self._reporter.note("the time is up; the same command goes on")

    def _tidy(self) -> None:
        """Make sure that study and runs belong together, and finish what a kill left half done."""
        known = self._study.get_trials(deepcopy=False)
        for trial in known:
            if set(trial.params) != set(SPACE):
                raise RunError(f"{self._folder / STUDY}: is not of this search")
            if trial.state in (TrialState.PRUNED, TrialState.FAIL):
                _keep_config_alone(self._run(trial))
        for run in self._folder.glob("trial-*"):
            if run not in {self._run(trial) for trial in known}:
                raise RunError(
                    f"{self._folder / STUDY}: knows nothing of {run.name}; restore it, or begin "
                    "anew with --restart"
                )

    def _next(self, number: int) -> FrozenTrial:
        """Draw a trial's settings, and add it to the study at once, as a whole.

        They are drawn in a copy of the study: a trial that optuna itself asks for is written one
        parameter after the other, and a kill between two of them would change the others.
        """
        distributions = {
            name: _distribution(each.low, each.high, log=each.log) for name, each in SPACE.items()
        }
        if number == 0:
            parameters = defaults(self._base)
        else:
            seed = np.random.SeedSequence([self._base.training.seed, number]).generate_state(1)[0]
            copy = optuna.create_study(
                direction="maximize",
                sampler=optuna.samplers.TPESampler(seed=int(seed), n_startup_trials=RANDOM_TRIALS),
            )
            copy.add_trials(self._study.get_trials(deepcopy=False))
            drawn = copy.ask(distributions).params
            # so that what is shown is what is used
            parameters = {
                name: float(f"{value:.3g}") if isinstance(value, float) else value
                for name, value in drawn.items()
            }
        self._study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=parameters, distributions=distributions
            )
        )
        return self._study.get_trials(deepcopy=False)[number]

    def _try(self, frozen: FrozenTrial, trials: int) -> None:
        number, run = frozen.number, self._run(frozen)
        config = configured(self._base, frozen.params)
        what = "the defaults" if number == 0 else parameters_text(frozen.params)
        self._reporter.unit("trying", number + 1, trials, f"{run.name}, {what}")
        self._open(run, config)
        trial = Trial(self._study, frozen._trial_id)
        reporter = _TrialReporter(self._reporter, trial, frozen, self._deadline)
        try:
            for log in epochs_of(run):  # a kill may have come before the study was told
                reporter.tell(log)
            progress = loop.fit(config, self._data, run, reporter)
            _, state = read_tensors(run / MODEL)
        except optuna.TrialPruned:
            self._study.tell(number, state=TrialState.PRUNED)
            _keep_config_alone(run)
            self._reporter.note(f"{run.name}: pruned after epoch {reporter.epochs}")
        except RunError as error:
            trial.set_user_attr("failed", str(error))
            self._study.tell(number, state=TrialState.FAIL)
            _keep_config_alone(run)
            self._reporter.note(f"{run.name}: failed: {error}")
        else:
            channels: dict[str, float | None] = state["blended"]["after"]
            trial.set_user_attr("channels", channels)
            trial.set_user_attr("best_epoch", progress.best_epoch)
            value = _mean(channels)
            self._study.tell(number, value)
            best = "  best" if value == self._study.best_value else ""
            self._reporter.note(f"{run.name}: validation NDCG@100 {value:.4f}{best}")

    def _open(self, run: Path, config: RunConfig) -> None:
        """Make a trial's folder, or make sure that what it holds can be gone on with."""
        if (run / CONFIG).exists():
            before = read_config(run)
            if replace(before, data=config.data) != config:
                raise RunError(
                    f"{run}: holds a run with other options than its trial; restore it, or begin "
                    "anew with --restart"
                )
            try:
                epochs_of(run)
                damaged = (run / CHECKPOINT).exists() and not (run / BEST).exists()
            except RunError:
                damaged = True
            if damaged and not (run / MODEL).exists():
                self._reporter.note(f"{run.name}: its checkpoint is damaged; it begins anew")
                _keep_config_alone(run)
        else:
            run.mkdir(exist_ok=True)
            write_config(run, config)

    def _run(self, trial: FrozenTrial) -> Path:
        return self._folder / f"trial-{trial.number:03}"

    def result(self) -> Tuning:
        """Put the trials together.

        Raises:
            RunError: none is complete.
        """
        trials = [self._told(each) for each in self._study.get_trials(deepcopy=False)]
        complete = [each for each in trials if each.ndcg is not None]
        if not complete:
            failed = [each for each in trials if each.failed]
            if failed and len(failed) == len(trials):
                raise RunError(
                    f"all {len(trials)} trials failed; the last one: {failed[-1].failed}"
                )
            raise RunError(
                f"{self._folder}: no trial is complete yet; run the same command again to go on"
            )
        best = max(complete, key=lambda each: each.ndcg or 0.0)  # the first of equals
        importances = None
        if len(complete) >= IMPORTANCE_TRIALS:
            importances = optuna.importance.get_param_importances(self._study)
        return Tuning(trials, best, importances)

    def _told(self, trial: FrozenTrial) -> TrialResult:
        complete = trial.state == TrialState.COMPLETE
        return TrialResult(
            number=trial.number,
            state=trial.state.name.lower(),
            parameters=dict(trial.params),
            ndcg=trial.value if complete else None,
            channels=trial.user_attrs["channels"] if complete else {},
            epochs=len(trial.intermediate_values),
            best_epoch=trial.user_attrs["best_epoch"] if complete else None,
            failed=trial.user_attrs.get("failed"),
            run=self._run(trial),
        )


class _TrialReporter:
    """Shows a trial's training, tells the study how it goes, and stops it where it should."""

    def __init__(
        self, reporter: Reporter, trial: Trial, before: FrozenTrial, deadline: float
    ) -> None:
        self._reporter = reporter
        self._trial = trial
        self._told = set(before.intermediate_values)
        self._deadline = deadline
        self.epochs = 0

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Pass it on."""
        self._reporter.step(epoch, done, steps)

    def epoch(self, log: loop.EpochLog) -> None:
        """Tell the study.

        Raises:
            optuna.TrialPruned: others were better by now.
            _TimeUp: the epoch is saved.
        """
        self._reporter.epoch(log)
        self.tell(log)
        if time.monotonic() > self._deadline:
            raise _TimeUp

    def tell(self, log: loop.EpochLog) -> None:
        """Tell the study of an epoch, unless it knows.

        Raises:
            optuna.TrialPruned: others were better by now.
        """
        self.epochs = log.epoch
        if log.epoch not in self._told:
            self._trial.report(_mean(log.ndcg), log.epoch)
            self._told.add(log.epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def stage(self, text: str) -> None:
        """Pass it on."""
        self._reporter.stage(text)

    def share(self, done: int, of: int) -> None:
        """Pass it on."""
        self._reporter.share(done, of)


def parameters_text(parameters: Parameters) -> str:
    """Arrange settings on one line."""
    return ", ".join(f"{name.replace('_', ' ')} {parameters[name]:g}" for name in SPACE)


def _distribution(low: float, high: float, *, log: bool) -> BaseDistribution:
    if isinstance(low, int) and isinstance(high, int):
        return IntDistribution(low, high, log=log)
    return FloatDistribution(low, high, log=log)


def _mean(channels: dict[str, float | None]) -> float:
    """Take the mean over the channels in which something could be measured."""
    known = [value for value in channels.values() if value is not None]
    return sum(known) / len(known)


def _keep_config_alone(run: Path) -> None:
    for path in run.glob("*"):
        if path.name != CONFIG:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
