"""Data: snapshots on disk, their statistics, preprocessing, splitting, validation, and the loader.

Enters: Arrow tables (from pandas, Spark, files). Leaves: immutable snapshots, and from them batches of
tensors. Called by training (``Loader``, ``Preprocessor``) and by pipelines (``write_snapshot``,
``validate_snapshot``, ``split_snapshot``). Reading and writing needs the extra ``data`` (pyarrow);
preprocessing alone, as in a server, needs NumPy only.
"""

from mxpipe.data._arrow import type_from_name
from mxpipe.data.files import files_digest, read_rows, writing_rows
from mxpipe.data.loader import Batch, Loader, LoaderProgress
from mxpipe.data.preprocess import CategoricalFeature, FeatureSpec, NumericFeature, Preprocessor
from mxpipe.data.shards import Shard, ShardRecord, write_shard, write_shards
from mxpipe.data.snapshot import Snapshot, SnapshotWriter, write_snapshot
from mxpipe.data.split import Split, split_snapshot
from mxpipe.data.statistics import ColumnStatistics, Statistics, StatisticsAccumulator
from mxpipe.data.validation import (
    Check,
    ColumnExpectation,
    DriftExpectation,
    Expectations,
    ValidationReport,
    population_stability,
    validate_snapshot,
)

__all__ = [
    "Batch",
    "CategoricalFeature",
    "Check",
    "ColumnExpectation",
    "ColumnStatistics",
    "DriftExpectation",
    "Expectations",
    "FeatureSpec",
    "Loader",
    "LoaderProgress",
    "NumericFeature",
    "Preprocessor",
    "Shard",
    "ShardRecord",
    "Snapshot",
    "SnapshotWriter",
    "Split",
    "Statistics",
    "StatisticsAccumulator",
    "ValidationReport",
    "files_digest",
    "population_stability",
    "read_rows",
    "split_snapshot",
    "type_from_name",
    "validate_snapshot",
    "write_shard",
    "write_shards",
    "write_snapshot",
    "writing_rows",
]
