"""C2Rec beside the baselines, over seeds and test windows, with settings chosen by validation.

::

    FOLDER/comparison.json                  what is compared
    FOLDER/window-W/NAME/….safetensors      figures of one trained model in one channel
    FOLDER/window-W/c2rec-SEED/             a run, as fit writes it
    FOLDER/window-W/c2rec-SEED-refit/       the same, trained again
    FOLDER/lock                             held by the comparison that is running

A baseline's settings are chosen per channel by validation NDCG in the oldest window, and used in
all windows: so no choice has seen a test day that it is measured on. Which baseline is the best
is decided by validation in all windows, which may see test days of older ones; that can flatter
the baseline alone.

What a retailer publishes has learned from all days (``fit --refit``). So with ``refit`` every
model, baselines too, is trained again on training and validation days, with what was chosen, before
it is measured.

What is in the folder is never made again, so the same command goes on where it was stopped, and
more seeds, windows or baselines can be asked for later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import torch

from c2rec.runtime.errors import DataError, RunError
from c2rec.runtime.records import CHANNELS
from c2rec.train import loop
from c2rec.train.baselines.settings import Candidate, Task
from c2rec.train.batches import Rows
from c2rec.train.comparison import Comparison, Result, put_together
from c2rec.train.config import CONFIG, SplitConfig, read_config, write_config
from c2rec.train.folder import opened
from c2rec.train.metrics import ChannelMetrics, Ranker, evaluate_channel
from c2rec.train.run import PreparedData, load_model, prepare
from c2rec.train.split import Purchases
from c2rec.train.trained import (
    METRICS,
    Model,
    Record,
    Trained,
    Variant,
    document_of,
    is_seeded,
    read_record,
    settings_of,
    write_record,
)
from c2rec.train.transactions import Dataset
from c2rec.train.windows import Ground, Window, cut, ground, survey

COMPARISON = "comparison.json"
_FIRST_SEED = 1


class Reporter(loop.Reporter, Protocol):
    """Shows how a comparison goes, and the training in it."""

    def unit(self, phase: str, number: int, units: int, what: str) -> None:
        """Say which unit of how many of a phase is being worked on."""
        ...

    def note(self, text: str) -> None:
        """Say what is left out, and why."""
        ...


def compare(
    dataset: Dataset,
    folder: Path,
    variants: Sequence[Variant],
    baselines: Mapping[str, Sequence[Candidate]],
    *,
    seeds: int,
    rolling: int,
    k: int,
    restart: bool,
    reporter: Reporter,
    whole: bool = False,
    refit: bool = False,
) -> Comparison:
    """Train and measure what the folder doesn't hold yet, and put all of it together.

    Args:
        dataset: checked transactions.
        folder: where results are kept.
        variants: the first is C2Rec, whose uplift is told. All have the same split and threads.
        baselines: by name, the settings to choose from; at least one of each.
        seeds: how many; they count from 1.
        rolling: how many test windows.
        k: length of the lists.
        restart: throw away what the folder holds.
        reporter: shows progress.
        whole: measure everybody and the whole catalogue, not only what is known to training.
            The baselines then learn from everybody's purchases. A table of customers can't be
            among the variants, for it knows its own alone.
        refit: train all again on the validation days too before measuring.

    Raises:
        loop.Interrupted: SIGINT or SIGTERM came while C2Rec was trained; it is saved.
        DataError: nothing can be measured.
        RunError: the folder holds something else, or training C2Rec failed.
    """
    split, threads = variants[0].config.split, variants[0].config.training.threads
    windows, notes = survey(dataset, split, rolling, whole=whole, refit=refit)
    if not any(window.channels for window in windows):
        raise DataError("\n".join(["nothing can be measured:", *notes]))
    for note in notes:
        reporter.note(note)
    identity = {
        "schema": 1,
        "dataset": dataset.fingerprint,
        "valid-days": split.valid_days,
        "test-days": split.test_days,
        "min-interactions": split.min_interactions,
        "k": k,
        "threads": threads,
    }
    # as fit does, so that what a baseline learns does not depend on what was trained before it
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    with opened(
        folder, COMPARISON, identity, what="comparison", made=["window-*"], restart=restart
    ):
        work = _Work(
            dataset,
            folder,
            split,
            windows,
            seeds=seeds,
            k=k,
            threads=threads,
            whole=whole,
            refit=refit,
        )
        work.check_runs(variants)
        chosen = work.choose(baselines, reporter)
        work.measure(variants, chosen, reporter)
        models: dict[str, _PerChannel] = {each.name: [each] * len(CHANNELS) for each in variants}
        return put_together(
            {name: work.results(each) for name, each in (models | chosen).items()},
            {
                name: {
                    channel: document_of(one) for channel, one in zip(CHANNELS, each, strict=True)
                }
                for name, each in (models | chosen).items()
            },
            ours=variants[0].name,
            meanings={each.name: each.meaning for each in variants[1:]},
            baselines=list(baselines),
            k=k,
            seeds=seeds,
            windows=sum(bool(window.channels) for window in windows),
            notes=notes,
            whole=whole,
            refit=refit,
        )


_PerChannel: TypeAlias = Sequence[Model | None]
"""What stands for a name in each channel; None where nothing can be measured or trained."""


class _Work:
    """A comparison under way. What is measured goes to the folder, and is read from there."""

    def __init__(
        self,
        dataset: Dataset,
        folder: Path,
        split: SplitConfig,
        windows: Sequence[Window],
        *,
        seeds: int,
        k: int,
        threads: int,
        whole: bool,
        refit: bool,
    ) -> None:
        self._dataset = dataset
        self._folder = folder
        self._split = split
        self._windows = sorted(windows, key=lambda window: -window.number)  # oldest first
        self._seeds = seeds
        self._k = k
        self._threads = threads
        self._whole = whole
        self._refit = refit
        self._prepared: tuple[Window, bool, PreparedData, Ground, Rows] | None = None
        """Of one window at a time, which bounds memory."""

    def check_runs(self, variants: Sequence[Variant]) -> None:
        """Make sure that the runs in the folder are what they would be now.

        Raises:
            RunError: one is not.
        """
        for window in self._windows:
            for variant in variants:
                for trained in self._of_all_seeds(window, variant):
                    run = trained.run(self._folder)
                    config = trained.run_config(self._folder, variant)
                    if (run / CONFIG).exists():
                        before = read_config(run)
                        if replace(before, data=config.data) != config:
                            raise RunError(
                                f"{run}: was trained with other options than {variant.name} has; "
                                "choose another --out, or add --restart to throw all away"
                            )

    def choose(
        self, baselines: Mapping[str, Sequence[Candidate]], reporter: Reporter
    ) -> dict[str, _PerChannel]:
        """Choose each baseline's settings, per channel in the oldest window that has it."""
        oldest = [
            next((window for window in self._windows if channel in window.channels), None)
            for channel in range(len(CHANNELS))
        ]
        units = []
        for window in self._windows:
            channels = [channel for channel, each in enumerate(oldest) if each is window]
            if channels:
                units += [
                    (Trained(window, candidate, _FIRST_SEED, self._whole), channels)
                    for candidates in baselines.values()
                    for candidate in candidates
                ]
        self._work_off("choosing settings", units, reporter)
        return {
            name: [
                None if window is None else self._best(candidates, window, channel)
                for channel, window in enumerate(oldest)
            ]
            for name, candidates in baselines.items()
        }

    def _best(
        self, candidates: Sequence[Candidate], window: Window, channel: int
    ) -> Candidate | None:
        """Find the first of those with the greatest validation NDCG, whatever the test says."""
        best, greatest = None, -1.0
        for candidate in candidates:
            trained = Trained(window, candidate, _FIRST_SEED, self._whole)
            reached = read_record(trained.path(self._folder, channel)).validation
            if reached is not None and reached > greatest:
                best, greatest = candidate, reached
        return best

    def measure(
        self, variants: Sequence[Variant], chosen: Mapping[str, _PerChannel], reporter: Reporter
    ) -> None:
        """Train and measure everything, the baselines with the settings chosen."""
        every = [*chosen.values(), *([variant] * len(CHANNELS) for variant in variants)]
        units: list[tuple[Trained, Sequence[int]]] = []
        for window in self._windows:
            again: list[tuple[Trained, Sequence[int]]] = []
            for models in every:
                for channel in window.channels:
                    model = models[channel]
                    same = [each for each in window.channels if models[each] is model]
                    if model is not None and channel == same[0]:
                        trained = self._of_all_seeds(window, model)
                        if self._refit:
                            again += [(replace(each, refit=True), same) for each in trained]
                            # a run chooses its own epochs and blend, whatever its seed; of the
                            # baselines' the first tells which is the best
                            trained = trained if isinstance(model, Variant) else trained[:1]
                        units += [(each, same) for each in trained]
            units += again  # one preparation after the other
        self._work_off("measuring", units, reporter)

    def results(self, models: _PerChannel) -> list[Result | str | None]:
        """Read what was measured.

        Returns:
            Per channel: figures, or why there are none though there should be, or None where
            nothing can be measured.
        """
        return [self._result(model, channel) for channel, model in enumerate(models)]

    def _result(self, model: Model | None, channel: int) -> Result | str | None:
        windows = [window for window in self._windows if channel in window.channels]
        if not windows:
            return None
        if model is None:
            return "it could be trained with none of its settings"
        customers, values, validation = [], [], []
        for window in windows:
            of_seeds = []
            for trained in self._of_all_seeds(window, model):
                trained = replace(trained, refit=self._refit)
                record = read_record(trained.path(self._folder, channel))
                if record.validation is None:
                    return f"{trained}: {record.failed}"
                if trained.seed == _FIRST_SEED:
                    validation.append(record.validation)
                    customers.append(record.metrics.customers)
                metrics = [getattr(record.metrics, metric) for metric in METRICS]
                of_seeds.append(np.stack(metrics, axis=1))  # (n, metrics)
            values.append(np.mean(of_seeds, axis=0))
        return Result(
            np.concatenate(customers), np.concatenate(values), sum(validation) / len(validation)
        )

    def _of_all_seeds(self, window: Window, model: Model) -> list[Trained]:
        seeds = self._seeds if is_seeded(model) else 1
        return [Trained(window, model, _FIRST_SEED + each, self._whole) for each in range(seeds)]

    def _work_off(
        self, phase: str, units: Sequence[tuple[Trained, Sequence[int]]], reporter: Reporter
    ) -> None:
        """Train and measure each unit in the channels that are not done yet."""
        for number, (trained, channels) in enumerate(units, 1):
            left = [each for each in channels if not trained.path(self._folder, each).exists()]
            if left:
                reporter.unit(phase, number, len(units), str(trained))
                self._measure(trained, left, reporter)

    def _measure(self, trained: Trained, channels: Sequence[int], reporter: Reporter) -> None:
        data, on, numbers = self._data(trained.window, refit=trained.refit)
        left = list(channels)
        try:
            ranker = self._train(trained, data, on, reporter)
            while left:
                self._keep(trained, left[0], self._record(trained, ranker, on, numbers, left[0]))
                left.pop(0)
        except RunError as error:
            if isinstance(trained.model, Variant):
                raise
            # settings that can't be used on this data; others may be
            reporter.note(f"{trained} is left out: {error}")
            nothing = ChannelMetrics(np.zeros(0, np.int64), *np.zeros((len(METRICS), 0)))
            for channel in left:
                self._keep(trained, channel, Record(nothing, None, str(error)))

    def _keep(self, trained: Trained, channel: int, record: Record) -> None:
        write_record(trained.path(self._folder, channel), record, settings_of(trained.model))

    def _train(
        self, trained: Trained, data: PreparedData, on: Ground, reporter: Reporter
    ) -> Ranker:
        if isinstance(trained.model, Candidate):
            size = on.index
            return trained.model.build(
                Task(size.purchases, size.customers, size.items, trained.seed, self._threads)
            )
        run, config = trained.run(self._folder), trained.run_config(self._folder, trained.model)
        run.mkdir(parents=True, exist_ok=True)
        if not (run / CONFIG).exists():
            write_config(run, config)
        loop.fit(config, data, run, reporter)
        model, _ = load_model(run, config, data)
        return loop.ModelRanker(model, on.index)

    def _record(
        self, trained: Trained, ranker: Ranker, on: Ground, numbers: Rows, channel: int
    ) -> Record:
        def measured(later: Purchases) -> ChannelMetrics:
            return evaluate_channel(
                ranker, on.index, later, channel, k=self._k, new_only=True, listed=on.listed
            )

        test = measured(on.test)
        renumbered = replace(test, customers=numbers[test.customers])
        if not trained.refit:
            return Record(renumbered, float(measured(on.valid).ndcg.mean()), None)
        first = replace(trained.chooser, seed=_FIRST_SEED)
        chosen_by = read_record(first.path(self._folder, channel))
        return Record(renumbered, chosen_by.validation, chosen_by.failed)

    def _data(self, window: Window, *, refit: bool) -> tuple[PreparedData, Ground, Rows]:
        """Prepare a window; with ``refit`` its validation days are training days.

        Returns:
            Its data, what is measured in it, and its customers' numbers in the whole dataset:
            int64 (customers,).
        """
        if self._prepared is None or self._prepared[:2] != (window, refit):
            self._prepared = None
            part, split = cut(self._dataset, self._split, window.number)
            data = prepare(part, replace(split, valid_days=0) if refit else split)
            everyone = sorted(self._dataset.transactions["customer_id"].unique().to_list())
            number = {customer: place for place, customer in enumerate(everyone)}
            on = ground(data, whole=self._whole)
            numbers = np.array([number[each] for each in on.customer_ids], np.int64)
            self._prepared = window, refit, data, on, numbers
        return self._prepared[2:]
