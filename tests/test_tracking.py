"""Logs for TensorBoard and MLflow: complete, without doubles, and never in training's way."""

import os
import signal
import socket
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from c2rec.train.checkpoint import read_tensors
from c2rec.train.cli import main
from c2rec.train.epochs import epochs_of
from c2rec.train.simulate import simulate

FIT = (
    *("--epochs", "4", "--threads", "1", "--embedding-size", "8", "--batch-size", "64"),
    *("--valid-days", "5", "--test-days", "5", "--min-interactions", "3"),
)
TERMS = {"loss", *(f"loss/{term}" for term in ("offline", "online", "class", "attention"))}
VALIDATION = {"validation-ndcg-10/offline", "validation-ndcg-10/online"}
FINAL = {
    f"final-validation-ndcg-100/{channel}-{when}"
    for channel in ("offline", "online")
    for when in ("before-blend", "blended")
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    simulate(folder, customers=200, items=60, days=40, seed=1)
    return folder


def fit(patch: pytest.MonkeyPatch, data: Path, out: Path, *more: str) -> int:
    """Run the command in this process and return its exit code."""
    patch.setattr("sys.argv", ["c2rec-train", "fit", str(data), "--out", str(out), *FIT, *more])
    with pytest.raises(SystemExit) as exited:
        main()
    assert isinstance(exited.value.code, int | None)
    return exited.value.code or 0


def killed_fit(data: Path, out: Path, *more: str) -> None:
    """Kill the command once two epochs are told."""
    command = [
        *(sys.executable, "-m", "c2rec.train.cli", "fit", str(data), "--out", str(out)),
        *(*FIT, *more),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 2/"):
            break
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def events(folder: Path) -> list[tuple[int, str, float]]:
    """Read a folder's event files by their format alone: step, tag and value of every scalar."""
    # its classes are made when it is imported
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    scalars = []
    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        place = 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)  # then 4 bytes of checksum
            event = Event.FromString(content[place + 12 : place + 12 + length])
            place += 12 + length + 4
            scalars += [
                (event.step, value.tag, value.simple_value)
                for value in event.summary.value
                if not value.HasField("metadata")
            ]
    return scalars


def assert_events_are_those_of(run: Path, folder: Path) -> None:
    told = events(folder)
    steps = [(step, tag) for step, tag, _ in told]
    assert len(steps) == len(set(steps))
    for log in epochs_of(run):
        of_epoch = {tag: value for step, tag, value in told if step == log.epoch}
        assert of_epoch.keys() >= TERMS | VALIDATION
        assert of_epoch["loss"] == pytest.approx(log.losses["loss"])
        assert of_epoch["validation-ndcg-10/online"] == pytest.approx(log.ndcg["online"])
    _, state = read_tensors(run / "model.safetensors")
    final = {tag: value for step, tag, value in told if tag in FINAL and step == state["epoch"]}
    assert final.keys() == FINAL
    for channel, value in state["blended"]["after"].items():
        assert final[f"final-validation-ndcg-100/{channel}-blended"] == pytest.approx(value)


def store(path: Path) -> tuple[Any, Any]:
    """Open an MLflow store and return its client and its only run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # among MLflow's own dependencies
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{path}")
        experiment = client.get_experiment_by_name("c2rec")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def assert_store_is_that_of(run: Path, path: Path) -> None:
    client, stored = store(path)
    assert stored.info.status == "FINISHED"
    assert stored.data.params["model.embedding_size"] == "8"
    assert stored.data.params["training.hold_out.low"] == "0.3"
    logs = epochs_of(run)
    for name in TERMS | VALIDATION:
        history = client.get_metric_history(stored.info.run_id, name)
        assert [each.step for each in history] == [log.epoch for log in logs]
    history = client.get_metric_history(stored.info.run_id, "loss")
    assert [each.value for each in history] == [log.losses["loss"] for log in logs]
    _, state = read_tensors(run / "model.safetensors")
    for channel, value in state["blended"]["after"].items():
        name = f"final-validation-ndcg-100/{channel}-blended"
        (metric,) = client.get_metric_history(stored.info.run_id, name)
        assert (metric.step, metric.value) == (state["epoch"], value)
    chosen = state["blended"]["blend"]["online"]["regression"]
    assert stored.data.params["chosen.online.regression"] == str(chosen)


def test_killed_and_gone_on_with_both_logs_are_whole_and_the_weights_are_those_without(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, board, path = tmp_path / "run", tmp_path / "board", tmp_path / "mlflow.db"
    more = ("--tensorboard", str(board), "--mlflow", f"sqlite:///{path}")
    killed_fit(data, run, *more)
    assert max(step for step, _, _ in events(board / "run")) < 4
    for _ in range(2):  # and once more, with nothing left to do
        assert fit(monkeypatch, data, run, *more) == 0
        assert_events_are_those_of(run, board / "run")
        assert_store_is_that_of(run, path)
    assert fit(monkeypatch, data, tmp_path / "plain") == 0
    assert not (tmp_path / "plain" / "tracking.json").exists()
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("run", "plain")]
    assert weights[0] == weights[1]


def test_a_run_of_the_same_name_is_logged_beside_not_over(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        more = ("--tensorboard", str(tmp_path / "board"))
        assert fit(monkeypatch, data, tmp_path / place / "run", *more) == 0
    assert len(list((tmp_path / "board" / "run").iterdir())) == 2


def test_a_restarted_run_has_a_new_log(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, more = tmp_path / "run", ("--tensorboard", str(tmp_path / "board"))
    assert fit(monkeypatch, data, run, *more) == 0
    before = (run / "tracking.json").read_bytes()
    assert fit(monkeypatch, data, run, *more, "--restart") == 0
    assert (run / "tracking.json").read_bytes() != before


def test_a_server_that_is_down_is_warned_of_once_and_caught_up_with_later(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{taken.getsockname()[1]}"
        assert fit(monkeypatch, data, tmp_path / "run", "--mlflow", uri) == 0
    printed = capsys.readouterr().err
    assert printed.count("Warning: can't log to http://127.0.0.1") == 1
    assert "Training goes on" in printed
    assert "secret" not in printed
    assert b"secret" not in (tmp_path / "run" / "tracking.json").read_bytes()
    path = tmp_path / "mlflow.db"
    assert fit(monkeypatch, data, tmp_path / "run", "--mlflow", f"sqlite:///{path}") == 0
    assert "Warning" not in capsys.readouterr().err
    assert_store_is_that_of(tmp_path / "run", path)


def test_an_event_folder_that_can_t_be_made_is_warned_of(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "run").write_text("in the way")
    more = ("--tensorboard", str(tmp_path / "board"))
    assert fit(monkeypatch, data, tmp_path / "run", *more) == 0
    assert capsys.readouterr().err.count("Warning: can't log to") == 1


@pytest.mark.parametrize(
    ("option", "package"), [("--tensorboard", "tensorboardX"), ("--mlflow", "mlflow")]
)
def test_a_missing_package_is_named_with_what_installs_it(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    package: str,
) -> None:
    for name in list(sys.modules):
        if name.split(".")[0] == package:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert fit(monkeypatch, data, tmp_path / "run", option, f"sqlite:///{tmp_path}/x") == 1
    printed = capsys.readouterr().err
    assert f"{package} is not installed; install it with: pip install 'c2rec[tracking]'" in printed
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("uri", ["mlruns", "./mlruns", "file:///tmp/mlruns", ""])
def test_a_folder_is_no_mlflow_uri(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str
) -> None:
    assert fit(monkeypatch, data, tmp_path / "run", "--mlflow", uri) == 2
    assert not (tmp_path / "run").exists()


def test_a_fit_without_logs_loads_neither_package(data: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from c2rec.train.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        "    assert not {'mlflow', 'tensorboardX', 'optuna'} & set(sys.modules)\n"
    )
    arguments = ["fit", str(data), "--out", str(tmp_path / "run"), *FIT]
    command = [sys.executable, "-c", script, *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=120, env=os.environ)
