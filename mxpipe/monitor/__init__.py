"""Monitoring of a served model: has what it sees, or how well it does, moved away from its training?

Enters: statistics of inputs and predictions, gathered where they pass (a server, a batch prediction, a
snapshot), and the training statistics of the version that answered. Leaves: a report, and a drift event when
a threshold holds. Who calls it: the server (``--monitor``), batch prediction, and the monitor stage of a
pipeline.

In the order in which numbers pass through them:

==============  ===================================================================================
``statistics``  counts, nulls, quantiles, categories of inputs and predictions; mergeable, JSON
``recorder``    counts a server's requests beside them, and writes window by window
``directory``   the files of one monitor; merges what all writers saw in a window
``compare``     a window against training: PSI, tests, performance; a pure function
``report``      one HTML page over one window
``events``      ``events.jsonl``: once per window id, with a cool-down
``check``       all of it for one window, repeatable
==============  ===================================================================================
"""

from mxpipe.monitor.check import Checked, check_window
from mxpipe.monitor.compare import (
    ColumnDrift,
    Comparison,
    Labelled,
    MonitorPolicy,
    Reference,
    Verdict,
    compare,
)
from mxpipe.monitor.directory import MonitorDirectory, Window, label_pairs
from mxpipe.monitor.events import DriftEvent, EventLog, Outcome
from mxpipe.monitor.recorder import RecorderSettings, StatisticsRecorder
from mxpipe.monitor.statistics import PredictionStatistics

__all__ = [
    "Checked",
    "ColumnDrift",
    "Comparison",
    "DriftEvent",
    "EventLog",
    "Labelled",
    "MonitorDirectory",
    "MonitorPolicy",
    "Outcome",
    "PredictionStatistics",
    "RecorderSettings",
    "Reference",
    "StatisticsRecorder",
    "Verdict",
    "Window",
    "check_window",
    "compare",
    "label_pairs",
]
