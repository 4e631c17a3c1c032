"""Faults of ``docs/reliability.md``, injected for real."""
