"""Dask around mxpipe: DataFrames become snapshots, and models are applied, by a Dask cluster's own workers.

Enters: a Dask DataFrame, or a snapshot. Leaves: a published :class:`mxpipe.data.Snapshot`, or published
:class:`mxpipe.batch.Predictions`. Called by ingest and batch-predict stages of pipelines. Dask (extra
``dask``) is imported here and nowhere else. Tasks run where Dask computes: on the current client's cluster,
such as the one of ``local_client``, else in this process.
"""

from mxpipe_dask.cluster import connect, local_client
from mxpipe_dask.predict import predict, predict_snapshot, write_predictions
from mxpipe_dask.snapshot import write_snapshot

__all__ = [
    "connect",
    "local_client",
    "predict",
    "predict_snapshot",
    "write_predictions",
    "write_snapshot",
]
