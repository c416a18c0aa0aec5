"""One real Spark for all tests: it takes ten seconds to start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("pyspark")

import mxpipe_spark

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """Two workers; a task that fails is tried four times, as on a cluster."""
    session = mxpipe_spark.local_session("tests", master="local[2,4]", memory="512m")
    yield session
    session.stop()
