"""What training shows on a terminal."""

import os
import select
from pathlib import Path

import pytest

from c2rec.train.report import ComparisonReporter, ConsoleReporter


def test_a_stage_has_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves its line alone: the bar is taken away when all is done."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        reporter = ConsoleReporter(3)
        reporter.stage("making rows")
        reporter.share(5, 10)
        reporter.share(10, 10)
        comparison = ComparisonReporter()
        comparison.unit("measuring", 1, 2, "c2rec")
        comparison.stage("making rows")
        comparison.share(5, 10)
        terminal.flush()
        last, read = "measuring 1/2: c2rec, making rows, 5/10", b""
        while not read.endswith(last.encode()) and select.select([ours], [], [], 10)[0]:
            read += os.read(ours, 10_000)  # a terminal hands over as much as it has by now
        shown = read.decode()
    os.close(ours)
    half, whole = "█" * 15 + "·" * 15 + "  5/10", "█" * 30 + "  10/10"
    assert f"making rows\r\n\r{half}\r{whole}\r\x1b[K" in shown
    assert shown.endswith(last)


def test_elsewhere_a_stage_is_its_line_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        monkeypatch.setattr("sys.stderr", file)
        reporter = ConsoleReporter(3)
        reporter.stage("making rows")
        reporter.share(5, 10)
        reporter.share(10, 10)
    assert (tmp_path / "log").read_text(encoding="utf-8") == "making rows\n"
