"""Each fault of docs/reliability.md, injected for real."""
