"""How a fit goes, for TensorBoard and MLflow, where asked for.

Whatever happens to a log, training goes on: a tracker that fails is warned of once, and tries again
after each epoch. The checkpoint holds the figures of every epoch, so a log is made whole by the
next epoch or the next ``fit``, and no epoch is in it twice. ``RUN/tracking.json`` names the run's
logs::

    {"id": "5f0c…", "mlflow": {"<sha256 of the URI>": "<MLflow's run id>"}}

Event files are written by tensorboardX, which needs numpy and protobuf alone; torch's own writer
is a part of the whole of TensorBoard, web server included. To look at them takes TensorBoard.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from c2rec.runtime.errors import MissingExtraError, RunError
from c2rec.train.checkpoint import read_tensors
from c2rec.train.config import RunConfig
from c2rec.train.epochs import epochs_of
from c2rec.train.files import write_bytes
from c2rec.train.loop import EpochLog, Reporter
from c2rec.train.run import MODEL

TRACKING = "tracking.json"
_PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""Seconds and tries: training waits for them, and the next epoch tries again. MLflow's own
settings would let a dead server hold an epoch up for minutes."""


class Tracker(Protocol):
    """A log of one run. Any method may raise anything: ``tracked`` sees to it."""

    name: str
    """For messages."""

    def start(self, run: Path, config: RunConfig, logs: Sequence[EpochLog]) -> None:
        """Begin the log, or go on with it, with the epochs that the checkpoint holds."""
        ...

    def epoch(self, log: EpochLog) -> None:
        """Add an epoch."""
        ...

    def finish(self, epoch: int, blended: dict[str, Any]) -> None:
        """Add the best epoch and ``blend.Blended``, and close the log."""
        ...

    def stop(self) -> None:
        """Say that training stopped early."""
        ...


@contextmanager
def tracked(
    reporter: Reporter, trackers: Sequence[Tracker], run: Path, config: RunConfig
) -> Iterator[Reporter]:
    """Make a reporter that keeps logs as well, from before the first epoch to the blend.

    Args:
        reporter: told everything, and what can't be logged.
        trackers: may be empty.
        run: its folder, locked.
        config: what is trained.

    Raises:
        RunError: the checkpoint is damaged.
    """
    if not trackers:
        yield reporter
        return
    logs = epochs_of(run)
    tracking = _TrackingReporter(reporter, trackers)
    tracking.each(lambda tracker: tracker.start(run, config, logs))
    try:
        yield tracking
    except BaseException:
        tracking.each(lambda tracker: tracker.stop())
        raise
    _, state = read_tensors(run / MODEL)
    tracking.each(lambda tracker: tracker.finish(state["epoch"], state["blended"]))


class _TrackingReporter:
    """Passes everything on, and epochs to the trackers."""

    def __init__(self, reporter: Reporter, trackers: Sequence[Tracker]) -> None:
        self._reporter = reporter
        self._trackers = trackers
        self._warned: set[str] = set()

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Pass it on."""
        self._reporter.step(epoch, done, steps)

    def epoch(self, log: EpochLog) -> None:
        """Pass it on, and log it."""
        self._reporter.epoch(log)
        self.each(lambda tracker: tracker.epoch(log))

    def stage(self, text: str) -> None:
        """Pass it on."""
        self._reporter.stage(text)

    def share(self, done: int, of: int) -> None:
        """Pass it on."""
        self._reporter.share(done, of)

    def each(self, act: Callable[[Tracker], None]) -> None:
        """Do something with each tracker, and warn of the first failure of each."""
        for tracker in self._trackers:
            try:
                act(tracker)
            except Exception as error:  # of any kind: it is a third party's, on a network
                if tracker.name not in self._warned:
                    self._warned.add(tracker.name)
                    text = f"Warning: can't log to {tracker.name}: {error}"
                    self._reporter.stage(
                        f"{_without_password(text)}\nTraining goes on; what is missing is logged "
                        "after a later epoch, or by the same command run again."
                    )


class TensorBoard:
    """Event files in a folder for each run; written anew whenever a fit starts, they are small.

    Args:
        folder: what TensorBoard is pointed at.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboardX import summary
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event
        except ImportError as error:
            raise _missing("tensorboardX") from error
        self.name = str(folder)
        self._folder = folder
        self._summary, self._event = summary, Event
        # its other writers have a thread of their own, and hang once that has met a full disk
        self._open: Callable[..., Any] = EventsWriter
        self._writer: Any = None

    def start(self, run: Path, config: RunConfig, logs: Sequence[EpochLog]) -> None:
        """Replace this run's event file by one with the epochs so far."""
        folder = self._folder / run.resolve().name
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f".c2rec-{_read(run)['id']}"  # another run may have the folder's name too
        for before in folder.glob(f"events.out.tfevents.*{suffix}"):
            before.unlink()
        self._writer = self._open(str(folder / "events"), filename_suffix=suffix)
        document = json.dumps(asdict(config), indent=2)
        self._write(0, self._summary.text("config", f"```\n{document}\n```"))
        for log in logs:
            self.epoch(log)
        self._writer.flush()

    def epoch(self, log: EpochLog) -> None:
        """Write it at once."""
        if self._writer is None:
            return  # it could not be opened, which was said
        for name, value in _figures(log).items():
            self._write(log.epoch, self._summary.scalar(name, value))
        self._writer.flush()

    def finish(self, epoch: int, blended: dict[str, Any]) -> None:
        """Write the blend and its figures, and close the file."""
        if self._writer is None:
            return
        document = json.dumps(blended["blend"], indent=2)
        self._write(epoch, self._summary.text("blend", f"```\n{document}\n```"))
        for name, value in _final_figures(blended).items():
            self._write(epoch, self._summary.scalar(name, value))
        self._writer.close()

    def stop(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, step: int, summary: Any) -> None:
        self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))


class MLflow:
    """A run of the experiment ``c2rec``, or of the one that MLFLOW_EXPERIMENT_NAME names.

    Args:
        uri: of a tracking server, or ``sqlite:///FILE``.

    Raises:
        MissingExtraError: mlflow is not installed.
    """

    def __init__(self, uri: str) -> None:
        for name, value in (_PATIENCE | {"MLFLOW_DISABLE_TELEMETRY": "true"}).items():
            os.environ.setdefault(name, value)
        try:
            with _quiet():
                from mlflow import entities
                from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise _missing("mlflow") from error
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        self.name = _without_password(uri)
        self._uri = uri
        self._entities = entities
        self._new_client: Callable[..., Any] = MlflowClient
        self._client: Any = None
        self._run_id: str | None = None
        self._config: RunConfig
        self._run: Path
        self._logs: list[EpochLog] = []
        self._logged: set[int] | None = None
        """Epochs that the server has; None where it has to be asked."""

    def start(self, run: Path, config: RunConfig, logs: Sequence[EpochLog]) -> None:
        """Make the run, or find it, and log the epochs that it lacks."""
        self._run, self._config, self._logs = run, config, list(logs)
        self._send()

    def epoch(self, log: EpochLog) -> None:
        """Log it, and those before it that could not be."""
        self._logs.append(log)
        self._send()

    def finish(self, epoch: int, blended: dict[str, Any]) -> None:
        """Log the blend as parameters ``chosen.…``, and its figures."""
        run_id = self._send()
        with _quiet():
            run = self._client.get_run(run_id)
            figures = _final_figures(blended)
            if not figures.keys() <= run.data.metrics.keys():
                self._batch(run_id, epoch, figures, _flat(blended["blend"], "chosen."))
            if run.info.status != "FINISHED":
                self._client.set_terminated(run_id, "FINISHED")

    def stop(self) -> None:
        """Mark the run as killed, until a fit goes on with it."""
        with _quiet():
            if self._run_id is not None:
                self._client.set_terminated(self._run_id, "KILLED")

    def _send(self) -> str:
        """Log the epochs that the server lacks, and return the run's id there."""
        with _quiet():
            run_id = self._run_id = self._run_id or self._find()
            logged, self._logged = self._logged, None  # unknown, should the rest of this fail
            if logged is None:
                history = self._client.get_metric_history(run_id, "loss")
                logged = {metric.step for metric in history}
            for log in self._logs:
                if log.epoch not in logged:
                    self._batch(run_id, log.epoch, _figures(log), {})
                    logged.add(log.epoch)
            self._logged = logged
            return run_id

    def _find(self) -> str:
        """Find this run on the server by its id, or make it."""
        self._client = self._new_client(tracking_uri=self._uri)
        tracking = _read(self._run)
        key = hashlib.sha256(self._uri.encode()).hexdigest()  # a URI may hold a password
        run_id: str | None = tracking["mlflow"].get(key)
        if run_id is None:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "c2rec")
            experiment = self._client.get_experiment_by_name(name)
            place = experiment.experiment_id if experiment else self._client.create_experiment(name)
            made = self._client.create_run(place, run_name=self._run.resolve().name)
            run_id = str(made.info.run_id)
            tracking["mlflow"][key] = run_id
            _write(self._run, tracking)
        run = self._client.get_run(run_id)
        if run.info.status not in ("RUNNING", "FINISHED"):
            self._client.update_run(run_id, status="RUNNING")
        # what is there can't be changed, and only the place of the data may differ
        flat = _flat(asdict(self._config), "")
        missing = {name: value for name, value in flat.items() if name not in run.data.params}
        self._batch(run_id, 0, {}, missing)
        return run_id

    def _batch(
        self, run_id: str, step: int, figures: dict[str, float], parameters: dict[str, str]
    ) -> None:
        now = int(1000 * time.time())
        metrics = [self._entities.Metric(key, each, now, step) for key, each in figures.items()]
        params = [self._entities.Param(key, each) for key, each in parameters.items()]
        self._client.log_batch(run_id, metrics=metrics, params=params)


def _figures(log: EpochLog) -> dict[str, float]:
    """Name an epoch's figures, in characters that MLflow allows."""
    terms = {name if name == "loss" else f"loss/{name}": each for name, each in log.losses.items()}
    ndcg = {f"validation-ndcg-10/{name}": each for name, each in log.ndcg.items()}
    return terms | {name: each for name, each in ndcg.items() if each is not None}


def _final_figures(blended: dict[str, Any]) -> dict[str, float]:
    return {
        f"final-validation-ndcg-100/{name}-{when}": value
        for when, key in (("before-blend", "before"), ("blended", "after"))
        for name, value in blended[key].items()
        if value is not None
    }


def _flat(document: dict[str, Any], prefix: str) -> dict[str, str]:
    """Name the leaves of nested objects with dots between the names."""
    flat: dict[str, str] = {}
    for name, value in document.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat


def _read(run: Path) -> dict[str, Any]:
    path = run / TRACKING
    if not path.exists():
        _write(run, {"id": secrets.token_hex(8), "mlflow": {}})
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(document["id"], str) or not isinstance(document["mlflow"], dict):
            raise TypeError("not what fit writes")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise RunError(f"{path}: is damaged ({error}); delete it to begin new logs") from error
    return document


def _write(run: Path, document: dict[str, Any]) -> None:
    write_bytes(run / TRACKING, (json.dumps(document, indent=2) + "\n").encode())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what MLflow and its dependencies deprecate of each other to themselves."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield


def _missing(package: str) -> MissingExtraError:
    return MissingExtraError(
        f"{package} is not installed; install it with: pip install 'c2rec[tracking]'"
    )


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)
