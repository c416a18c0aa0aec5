"""Monitoring of a served model: has what it sees, or how well it does, moved away from its training?

Enters: statistics of inputs and predictions, gathered where they pass (a server, a batch prediction, a
snapshot), and the training statistics of the version that answered. Leaves: a report, and a drift event when
a threshold holds. Who calls it: the server (``--monitor``), batch prediction, and the monitor stage of a
pipeline.

In the order in which numbers pass through them:

==============  ===================================================================================
``statistics``  counts, nulls, quantiles, categories of inputs and predictions; mergeable, JSON
``events``      ``events.jsonl``: once per window id, with a cool-down
==============  ===================================================================================
"""

from mxpipe.monitor.events import DriftEvent, EventLog, Outcome
from mxpipe.monitor.statistics import PredictionStatistics

__all__ = ["DriftEvent", "EventLog", "Outcome", "PredictionStatistics"]
