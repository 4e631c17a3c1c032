"""A kiosk's home folder: its state, settings, identity, and clocks that may be wrong."""
