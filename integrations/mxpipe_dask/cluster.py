"""A Dask of one machine: worker processes, nothing reachable from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mxpipe.errors import JobError, require

if TYPE_CHECKING:
    from distributed import Client


@contextmanager
def local_client(
    workers: int = 2, *, threads: int = 1, memory: str = "auto", tls: bool = False, **settings: Any
) -> Iterator[Client]:
    """Start a cluster of worker processes on this machine, and end it with the block.

    It listens on the loopback interface alone. While the block lasts, Dask computes there.

    Args:
        workers: Worker processes.
        threads: Threads of each that take tasks.
        memory: Memory limit of a worker, in Dask's notation.
        tls: Encrypt and authenticate what processes tell each other, by certificates made for this cluster:
            other users of this machine cannot send it tasks.
        settings: Further arguments of ``distributed.LocalCluster``; they win over the ones above.

    Raises:
        MissingExtraError: Dask is not installed.
        JobError: The cluster did not start.

    Example:
        >>> with local_client(2):  # doctest: +SKIP
        ...     snapshot = write_snapshot(rows, "data/flights", sort_by=["id"])
    """
    distributed = require("distributed", extra="dask")
    given: dict[str, Any] = {
        "n_workers": workers,
        "threads_per_worker": threads,
        "memory_limit": memory,
        "host": "127.0.0.1",
        "protocol": "tls://" if tls else "tcp://",
        "dashboard_address": "127.0.0.1:0",
        "worker_dashboard_address": "127.0.0.1:0",
        **settings,
    }
    if tls:
        given.setdefault("security", distributed.Security.temporary())
    try:
        cluster = distributed.LocalCluster(**given)
    except Exception as error:
        raise JobError(f"[dask] a cluster of {workers} workers must start; got {error}.") from error
    with cluster, distributed.Client(cluster) as client:
        yield client


@contextmanager
def connect(scheduler: str | None = None, workers: int = 2) -> Iterator[Client]:
    """Let Dask compute on a running cluster, or on one of this machine that ends with the block.

    Args:
        scheduler: Address of the cluster; its certificates are what Dask's configuration says.
        workers: Worker processes where there is no address, see ``local_client``.

    Raises:
        JobError: There is no cluster at the address, or it did not start.
    """
    distributed = require("distributed", extra="dask")
    if scheduler is None:
        with local_client(workers) as client:
            yield client
        return
    try:
        client = distributed.Client(scheduler)
    except (OSError, TimeoutError) as error:
        raise JobError(f"[dask] a scheduler must answer at {scheduler}; got {error}.") from error
    with client:
        yield client
