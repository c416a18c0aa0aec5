"""One real Dask cluster of two processes for all tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("distributed")

import mxpipe_dask

if TYPE_CHECKING:
    from distributed import Client


@pytest.fixture(scope="session")
def client() -> Iterator[Client]:
    """Two worker processes."""
    with mxpipe_dask.local_client(2) as started:
        yield started
