"""The commands of ``c2rec-export``, a file for each."""
