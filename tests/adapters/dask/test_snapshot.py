"""A real Dask cluster on this machine writes snapshots: rows, types, digests, faults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from mxpipe.data import FeatureSpec, Preprocessor, write_snapshot
from mxpipe.errors import DataError, JobFailedError, SchemaError

pytest.importorskip("dask.dataframe")

import dask.dataframe as dd

import mxpipe_dask

if TYPE_CHECKING:
    from distributed import Client

ROWS = 2000


def make_rows(rows: int = ROWS) -> pd.DataFrame:
    row = np.arange(rows)
    return pd.DataFrame(
        {
            "month": (row % 12).astype(np.int8),
            "flight": row.astype(np.int32),
            "distance": pd.array(np.where(row % 10 == 0, None, row * 1.5), dtype="double[pyarrow]"),
            "place": [None if value % 13 == 0 else f"Zürich {value % 5}" for value in row],
            "late": row % 4 == 0,
            "moment": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(row, "s"),
            "kind": pd.Categorical.from_codes(row % 2, ["a", "b"]),
        }
    )


@pytest.fixture
def frame(client: Client) -> Any:
    return dd.from_pandas(make_rows(), npartitions=3)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_type_arrives(frame: Any, tmp_path: Path):
    snapshot = mxpipe_dask.write_snapshot(frame, tmp_path / "rows", metadata={"month": 1}, rows_per_shard=500)
    assert snapshot.column_types == {
        "month": "int8", "flight": "int32", "distance": "float64", "place": "string", "late": "bool",
        "moment": "timestamp[us, tz=UTC]", "kind": "string",
    }  # fmt: skip
    assert (snapshot.num_rows, snapshot.metadata) == (ROWS, {"month": 1})
    assert [shard.rows for shard in snapshot.shards] == [500, 167, 500, 167, 500, 166]
    table = snapshot.to_table().to_pydict()
    assert table["flight"] == list(range(ROWS)), "partitions keep their order"
    assert table["distance"] == [None if row % 10 == 0 else row * 1.5 for row in range(ROWS)]
    assert table["place"] == [None if row % 13 == 0 else f"Zürich {row % 5}" for row in range(ROWS)]
    assert table["kind"][:3] == ["a", "b", "a"]
    assert Preprocessor.fit(snapshot, FeatureSpec(["distance"], ["place"])).cardinalities == [6]
    assert names_in(tmp_path) == ["rows"]


def test_the_digest_depends_on_the_rows_alone(frame: Any, tmp_path: Path):
    options: dict[str, Any] = {"sort_by": ["month", "place"], "rows_per_shard": 300}
    first = mxpipe_dask.write_snapshot(frame, tmp_path / "a", **options)
    shuffled = dd.from_pandas(make_rows().sample(frac=1.0, random_state=1), npartitions=5, sort=False)
    assert mxpipe_dask.write_snapshot(shuffled, tmp_path / "b", **options).digest == first.digest
    # tests/adapters/spark holds Spark to the digests of this process; so all three agree.
    rows = pa.Table.from_pandas(make_rows(), preserve_index=False)
    assert write_snapshot(tmp_path / "c", rows, **options).digest == first.digest
    with pytest.raises(DataError, match="must not hold another snapshot"):
        mxpipe_dask.write_snapshot(frame.loc[:1000], tmp_path / "a", **options)
    assert names_in(tmp_path) == ["a", "b", "c"]


def test_bad_frames_are_named(frame: Any, tmp_path: Path):
    target = tmp_path / "rows"
    with pytest.raises(SchemaError, match="column 'week' must be in the DataFrame to sort by"):
        mxpipe_dask.write_snapshot(frame, target, sort_by=["week"])
    with pytest.raises(SchemaError, match=r"column 'gap' must be numeric.*duration"):
        mxpipe_dask.write_snapshot(frame.assign(gap=frame["moment"] - frame["moment"]), target)
    with pytest.raises(DataError, match="must hold at least one row; got none"):
        mxpipe_dask.write_snapshot(frame[frame["flight"] < 0], target)
    mixed = frame[["place"]].map_partitions(lambda part: part.assign(place=1.5), meta={"place": object})
    with pytest.raises(SchemaError, match="column 'place' must hold string in every partition"):
        mxpipe_dask.write_snapshot(mixed, target)
    broken = frame.map_partitions(lambda part: part.missing_method(), meta=frame._meta)
    with pytest.raises(JobFailedError, match=r"writing .* must succeed; got AttributeError: "):
        mxpipe_dask.write_snapshot(broken, target)
    assert names_in(tmp_path) == []


def listening(processes: list[int]) -> set[str]:
    """Addresses, in hex as Linux writes them, on which processes wait for connections."""
    sockets = {
        os.readlink(descriptor)
        for process in processes
        for descriptor in Path(f"/proc/{process}/fd").iterdir()
        if descriptor.is_symlink()
    }
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


def test_a_cluster_is_private(client: Client):
    workers = list(client.run(os.getpid).values())
    assert len(workers) == 2
    assert listening([os.getpid(), *workers]) == {"0100007F"}, "127.0.0.1 and nothing else"


@pytest.mark.slow
def test_a_cluster_can_refuse_strangers(tmp_path: Path):
    from distributed import Client

    with mxpipe_dask.local_client(1, tls=True) as secure:
        assert secure.scheduler.addr.startswith("tls://127.0.0.1:")
        assert secure.submit(sum, [1, 2]).result() == 3
        plain = secure.scheduler.addr.replace("tls://", "tcp://")
        with pytest.raises((OSError, TimeoutError)):
            Client(plain, timeout="2s")
