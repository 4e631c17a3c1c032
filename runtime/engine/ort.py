"""onnxruntime, with its reports to its makers off: the one place that imports it.

From 1.32 on, on Linux too, importing it makes a device's id and a database of reports in the user's
cache folder, and a thread that sends them. Once imported it is too late: the call that should
switch that off comes after the id. A kiosk reports to head office alone.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

__all__ = ["onnxruntime"]
