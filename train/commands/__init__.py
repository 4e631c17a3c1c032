"""The commands of ``c2rec-train``, one file for each thing that is done."""
