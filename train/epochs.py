"""What a run's epochs were, read from its checkpoint."""

from pathlib import Path

from c2rec.runtime.errors import RunError
from c2rec.train.checkpoint import read_tensors
from c2rec.train.loop import EpochLog
from c2rec.train.run import CHECKPOINT


def epochs_of(run: Path) -> list[EpochLog]:
    """Read the figures of the whole epochs done so far; none before the first checkpoint.

    Raises:
        RunError: the checkpoint is damaged.
    """
    path = run / CHECKPOINT
    if not path.exists():
        return []
    _, state = read_tensors(path)
    try:
        return [EpochLog(**log) for log in state["logs"]]
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: is damaged: {error}; begin anew with --restart") from error
