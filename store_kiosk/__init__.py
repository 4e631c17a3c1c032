"""The command that a store's kiosk runs: install a release, recommend, tell its status."""
