"""A reporter for tests, which prints nothing."""

from c2rec.train.loop import EpochLog


class QuietReporter:
    """The production interface, silent."""

    def step(self, epoch: int, done: int, steps: int) -> None:
        """Say nothing."""

    def epoch(self, log: EpochLog) -> None:
        """Say nothing."""

    def stage(self, text: str) -> None:
        """Say nothing."""

    def share(self, done: int, of: int) -> None:
        """Say nothing."""
