"""Spark around mxpipe: DataFrames become snapshots, and models are applied, by Spark's own workers.

Enters: a Spark DataFrame, or a snapshot. Leaves: a published :class:`mxpipe.data.Snapshot`, or published
:class:`mxpipe.batch.Predictions`. Called by ingest and batch-predict stages of pipelines. PySpark (extra
``spark``) is imported here and nowhere else; Java is found by ``local_session``.
"""

from mxpipe_spark.predict import predict, predict_snapshot, write_predictions
from mxpipe_spark.session import find_java, local_session
from mxpipe_spark.snapshot import write_snapshot

__all__ = [
    "find_java",
    "local_session",
    "predict",
    "predict_snapshot",
    "write_predictions",
    "write_snapshot",
]
