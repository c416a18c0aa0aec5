"""Batch prediction: every row of a table gets its prediction, once, whatever is killed or repeated meanwhile.

Enters: a pinned model, and rows as Arrow data or as the shards of a snapshot. Leaves: a snapshot of keys and
predictions, the rows that were refused with reasons, and statistics for monitoring. Called by the command
line (``mxpipe predict``), by the Spark and Dask adapters, which run ``predict_partition`` and
``predict_shard`` in their workers, and by pipelines.

In the order in which rows pass through them:

=============  ====================================================================================
``model``      a reference resolved once and pinned; one copy of the model a host
``values``     columns as they come, read as the model wants them; what cannot be read, row by row
``predictor``  tables in, predictions and refused rows out
``partition``  one partition: what a worker does, and may do twice
``writer``     the driver: staging, counts, one manifest
``local``      all of it in this process
``files``      from file to file
=============  ====================================================================================
"""

from mxpipe.batch.files import FilePredictions, predict_file
from mxpipe.batch.local import predict_rows, predict_snapshot
from mxpipe.batch.model import ModelFiles, PinnedModel, load_pinned, resolve_model
from mxpipe.batch.partition import PartitionTask, make_predictor, predict_partition, predict_shard
from mxpipe.batch.predictor import PredictionOptions, Predictor, Refused
from mxpipe.batch.writer import Predictions, PredictionWriter, find_predictions, place_name

__all__ = [
    "FilePredictions",
    "ModelFiles",
    "PartitionTask",
    "PinnedModel",
    "PredictionOptions",
    "PredictionWriter",
    "Predictions",
    "Predictor",
    "Refused",
    "find_predictions",
    "load_pinned",
    "make_predictor",
    "place_name",
    "predict_file",
    "predict_partition",
    "predict_rows",
    "predict_shard",
    "predict_snapshot",
    "resolve_model",
]
