"""The commands of ``c2rec-kiosk``, a file for each."""
