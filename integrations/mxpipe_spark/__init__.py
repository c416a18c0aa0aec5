"""Spark in front of mxpipe: a DataFrame becomes a snapshot, written by the workers.

Enters: a Spark DataFrame. Leaves: a published :class:`mxpipe.data.Snapshot`. Called by ingest stages of
pipelines. PySpark (extra ``spark``) is imported here and nowhere else; Java is found by ``local_session``.
"""

from mxpipe_spark.session import find_java, local_session
from mxpipe_spark.snapshot import write_snapshot

__all__ = ["find_java", "local_session", "write_snapshot"]
