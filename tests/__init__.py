"""The tests; what is set here is set before any of them loads torch."""

import os

# as the command line does: threads that spin at every barrier starve each other on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
