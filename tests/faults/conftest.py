"""Fixtures of all faults."""

import pytest

from tests.faults.place import fresh, made, place

__all__ = ["fresh", "made", "place"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies here."""
    for item in items:
        if "tests/faults/" in item.nodeid:
            item.add_marker("faults")
