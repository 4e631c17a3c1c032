"""Everything that answers in a store: release format, local cache, scoring and recommending."""

import os

# onnxruntime reports to its maker, of each process that loads it, what machine and program it is,
# and keeps what it couldn't send in the user's cache. It looks at this when it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
