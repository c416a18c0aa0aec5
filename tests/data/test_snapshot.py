"""Snapshots: what is written is read back, the same content has the same digest, and faults leave nothing."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mxpipe.data import ShardRecord, Snapshot, SnapshotWriter, write_shard, write_snapshot
from mxpipe.data.snapshot import MAX_MANIFEST_BYTES, manifest_digest
from mxpipe.errors import DataError, SchemaError, SnapshotCorruptError, StorageError


def rows_of_all_types(rows: int = 1000, seed: int = 0) -> pa.Table:
    generator = np.random.default_rng(seed)
    moments = generator.integers(0, 10**15, rows)
    gaps = generator.random(rows) < 0.1
    strings = [None if gap else f"Zürich-{index % 7}" for index, gap in enumerate(gaps)]
    columns = {
        "day": pa.array(generator.integers(0, 20_000, rows).astype(np.int32), pa.date32(), mask=gaps),
        "moment": pa.array(moments, pa.timestamp("us", tz="UTC"), mask=gaps),
        "local": pa.array(moments // 10**6, pa.timestamp("s")),
        "text": pa.array(strings),
        "flag": pa.array(generator.random(rows) < 0.5, mask=gaps),
        "empty": pa.nulls(rows, pa.string()),
    }
    for name in ("int8", "uint16", "int64", "uint64", "float32", "float64"):
        columns[name] = pa.array(generator.integers(0, 100, rows).astype(name), mask=gaps)
    return pa.table(columns)


def small(rows: int = 10) -> dict[str, list[float]]:
    return {"x": [float(value) for value in range(rows)]}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rows_come_back_as_they_were(tmp_path: Path):
    table = rows_of_all_types()
    written = write_snapshot(tmp_path / "rows", table, rows_per_shard=300, metadata={"source": "test"})
    snapshot = Snapshot.open(tmp_path / "rows")
    assert snapshot.digest == written.digest
    assert snapshot.num_rows == 1000
    assert [shard.rows for shard in snapshot.shards] == [300, 300, 300, 100]
    assert snapshot.metadata == {"source": "test"}
    assert snapshot.schema == table.schema
    assert snapshot.to_table().equals(table)
    assert snapshot.to_table(["text", "int8"]).equals(table.select(["text", "int8"]))
    assert snapshot.statistics == written.statistics
    snapshot.verify()
    assert names_in(tmp_path) == ["rows"]


def test_equal_content_has_one_digest_whatever_its_layout(tmp_path: Path):
    table = rows_of_all_types()
    layouts = {
        "chunks": pa.concat_tables([table.slice(0, 17), table.slice(17, 600), table.slice(617)]),
        "slices": pa.concat_tables([table, table]).slice(1000),
        "dictionaries": table.set_column(3, "text", pc.dictionary_encode(table["text"])),
        "large strings": table.set_column(3, "text", table["text"].cast(pa.large_string())),
        "reader": pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=64)),
        "metadata": table.replace_schema_metadata({"pandas": "{}"}),
    }
    digests = {name: write_snapshot(tmp_path / name, layout).digest for name, layout in layouts.items()}
    assert set(digests.values()) == {write_snapshot(tmp_path / "plain", table).digest}
    other = table.set_column(6, "int8", pc.add(table["int8"], pa.scalar(1, pa.int8())))
    assert write_snapshot(tmp_path / "other", other).digest not in digests.values()


def test_values_under_nulls_do_not_count(tmp_path: Path):
    mask = np.array([False, True, False])
    first, second = (pa.table({"x": pa.array(np.array([1, junk, 3]), mask=mask)}) for junk in (5, 99))
    assert write_snapshot(tmp_path / "a", first).digest == write_snapshot(tmp_path / "b", second).digest


def test_pandas_frames_and_mappings(tmp_path: Path):
    frame = pd.DataFrame({"x": [1.5, None], "name": ["a", None], "kind": pd.Categorical(["u", "v"])})
    snapshot = write_snapshot(tmp_path / "frame", frame)
    assert snapshot.column_types == {"x": "float64", "name": "string", "kind": "string"}
    assert snapshot.to_table().to_pydict() == {"x": [1.5, None], "name": ["a", None], "kind": ["u", "v"]}


def test_publishing_the_same_again_changes_nothing(tmp_path: Path):
    first = write_snapshot(tmp_path / "rows", small())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()}
    assert write_snapshot(tmp_path / "rows", small()).digest == first.digest
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "rows").iterdir()} == before
    with pytest.raises(DataError, match="must not hold another snapshot"):
        write_snapshot(tmp_path / "rows", small(11))
    assert Snapshot.open(tmp_path / "rows").digest == first.digest
    assert names_in(tmp_path) == ["rows"]


def test_workers_may_come_in_any_order_and_repeat(tmp_path: Path):
    parts = [rows_of_all_types(50, seed) for seed in range(4)]
    with SnapshotWriter(tmp_path / "rows") as writer:
        records = [write_shard(writer.staging_uri, index, part).to_json() for index, part in enumerate(parts)]
        assert len(json.dumps(records)) < 10_000  # what passes through the driver's network is small
        records.append(write_shard(writer.staging_uri, 2, parts[2]).to_json())
        write_shard(writer.staging_uri, 3, parts[0])  # a lost attempt with other content
        (Path(writer.staging_uri) / "shard.0123.part").write_bytes(b"of a killed task")
        snapshot = writer.commit(json.loads(json.dumps(records[::-1])))
    assert snapshot.to_table().equals(pa.concat_tables(parts))
    assert names_in(tmp_path / "rows") == ["manifest.json", *(shard.name for shard in snapshot.shards)]
    with SnapshotWriter(tmp_path / "again") as writer:
        again = writer.commit([write_shard(writer.staging_uri, i, part) for i, part in enumerate(parts)])
    assert again.digest == snapshot.digest


def test_bad_input_is_named(tmp_path: Path):
    with pytest.raises(SchemaError, match=r"column 'price' must be numeric.*got decimal128\(5, 2\)"):
        write_snapshot(tmp_path / "x", pa.table({"price": pa.array([1], pa.decimal128(5, 2))}))
    with pytest.raises(SchemaError, match="column names must be unique; got 'x' twice"):
        write_snapshot(tmp_path / "x", pa.table([[1], [2]], names=["x", "x"]))
    with pytest.raises(DataError, match="must hold at least one row; got none"):
        write_snapshot(tmp_path / "x", pa.table({"x": pa.array([], pa.int64())}))
    with pytest.raises(SchemaError, match="data must be Arrow data or convertible to it; got int"):
        write_snapshot(tmp_path / "x", 5)
    with (
        pytest.raises(SchemaError, match=r"all shards of .* must have one schema.*'y'.*partition 1"),
        SnapshotWriter(tmp_path / "x") as writer,
    ):
        writer.commit([write_shard(writer.staging_uri, i, {name: [1]}) for i, name in enumerate("xy")])
    assert names_in(tmp_path) == []


def test_missing_things_are_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nowhere must be a published snapshot; got no manifest\.json"):
        Snapshot.open(tmp_path / "nowhere")
    snapshot = write_snapshot(tmp_path / "rows", small())
    with pytest.raises(SchemaError, match="column 'y' must be in"):
        snapshot.to_table(["y"])
    shard = tmp_path / "rows" / snapshot.shards[0].name
    shard.unlink()
    with pytest.raises(SnapshotCorruptError, match=rf"{shard.name} must exist"):
        snapshot.to_table()


def test_one_flipped_byte_anywhere_in_a_shard(tmp_path: Path):
    snapshot = write_snapshot(tmp_path / "rows", rows_of_all_types(50))
    path = tmp_path / "rows" / snapshot.shards[0].name
    content = path.read_bytes()
    for place in random.Random(0).sample(range(len(content)), 25):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SnapshotCorruptError, match=path.name):
            Snapshot.open(tmp_path / "rows").to_table()
    path.write_bytes(content[:-1])
    with pytest.raises(SnapshotCorruptError, match=f"{path.name} must have {len(content)} bytes"):
        Snapshot.open(tmp_path / "rows").to_table()
    path.write_bytes(content)
    Snapshot.open(tmp_path / "rows").verify()


def test_one_flipped_byte_anywhere_in_the_manifest(tmp_path: Path):
    write_snapshot(tmp_path / "rows", rows_of_all_types(20))
    path = tmp_path / "rows" / "manifest.json"
    content = path.read_bytes()
    for place in random.Random(0).sample(range(len(content)), 200):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SnapshotCorruptError, match=r"manifest\.json"):
            Snapshot.open(tmp_path / "rows")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "other"),
        ("version", 2),
        ("rows", -1),
        ("rows", 11),
        ("rows", True),
        ("schema", [{"name": "x"}]),
        ("schema", {}),
        ("shards", [{"name": "x"}]),
        ("shards.name", "../../etc/passwd"),
        ("shards.sha256", "no digest"),
        ("shards.rows", "ten"),
        ("statistics", None),
        ("metadata", []),
        ("digest", "0" * 64),
    ],
)
def test_manifests_are_checked_field_by_field(tmp_path: Path, field: str, value: object):
    write_snapshot(tmp_path / "rows", small())
    path = tmp_path / "rows" / "manifest.json"
    manifest = json.loads(path.read_text())
    if field.startswith("shards."):
        manifest["shards"][0][field.removeprefix("shards.")] = value
    else:
        manifest[field] = value
    if field != "digest":
        manifest["digest"] = manifest_digest(manifest)  # a forger knows how to
    path.write_text(json.dumps(manifest))
    with pytest.raises(SnapshotCorruptError, match=f"field '{field}' of .*manifest.json"):
        Snapshot.open(tmp_path / "rows")


def test_a_huge_or_deep_manifest_is_not_read(tmp_path: Path):
    (tmp_path / "rows").mkdir()
    path = tmp_path / "rows" / "manifest.json"
    with open(path, "wb") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(SnapshotCorruptError, match="must be at most"):
        Snapshot.open(tmp_path / "rows")
    path.write_text("[" * 100_000)
    with pytest.raises(SnapshotCorruptError, match="must be JSON"):
        Snapshot.open(tmp_path / "rows")


def test_a_second_writer_of_the_same_place_is_refused(tmp_path: Path):
    code = (
        "import sys\n"
        "from mxpipe.data import SnapshotWriter\n"
        "writer = SnapshotWriter(sys.argv[1])\n"
        "print('writing', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "rows")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        with pytest.raises(StorageError, match="must have one writer at a time"):
            write_snapshot(tmp_path / "rows", small())
        process.kill()
    # What the killed writer left is no obstacle.
    write_snapshot(tmp_path / "rows", small())
    assert names_in(tmp_path) == ["rows"]


WRITER = """
import sys, pyarrow as pa, numpy as np
from mxpipe.data import write_snapshot
print("go", flush=True)
rows = np.arange(200_000)
table = pa.table({f"c{i}": rows * (i + 1) for i in range(4)})
print(write_snapshot(sys.argv[1], table, rows_per_shard=10_000).digest)
"""


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.08, 0.15])
def test_killed_at_any_moment_there_is_all_or_nothing(tmp_path: Path, delay: float):
    target = tmp_path / "rows"
    command = [sys.executable, "-c", WRITER, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
    if target.exists():
        Snapshot.open(target).verify()
    rows = np.arange(200_000)
    table = pa.table({f"c{i}": rows * (i + 1) for i in range(4)})
    snapshot = write_snapshot(target, table, rows_per_shard=10_000)
    snapshot.verify()
    assert names_in(tmp_path) == ["rows"]
    assert len(names_in(target)) == 21


def test_file_size_limit_is_a_storage_error_and_leaves_nothing(tmp_path: Path):
    code = WRITER.replace("print(write", "import mxpipe.errors\ntry:\n    print(write") + (
        "except mxpipe.errors.StorageError as error:\n    print(error)\n"
    )

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "rows")],
        capture_output=True, text=True, timeout=60, preexec_fn=limit, check=True,
    )  # fmt: skip
    assert "[storage] writing a shard in" in result.stdout
    assert "File too large" in result.stdout
    assert names_in(tmp_path) == []


@contextlib.contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a tmpfs needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(not Path("/bin/mount").exists(), reason="there is no mount command")
def test_full_disk_is_a_storage_error_and_leaves_nothing(tmp_path: Path):
    with tiny_disk(tmp_path / "disk", "1m") as disk:
        # A table says how large it is; of a stream that is known shard by shard.
        table = pa.table(small(300_000))
        for rows in (table, table.to_reader()):
            with pytest.raises(StorageError, match="MB free to write it"):
                write_snapshot(disk / "rows", rows, rows_per_shard=20_000)
            assert names_in(disk) == []
        write_snapshot(disk / "rows", small(1000))  # and the space is free again
        # A disk that is full to the last page, when the manifest is written.
        with SnapshotWriter(disk / "last", metadata={"long": "x" * 100_000}) as writer:
            records = [write_shard(writer.staging_uri, 0, small(1000))]
            with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(os.urandom(4096))
            with pytest.raises(StorageError, match="No space left on device"):
                writer.commit(records)
        assert names_in(disk) == ["filler", "rows"]


def test_remote_snapshots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = "memory://test/snapshots/rows"
    table = rows_of_all_types(100)
    remote = write_snapshot(uri, table, rows_per_shard=40)
    assert Snapshot.open(uri).to_table().equals(table)
    assert remote.digest == write_snapshot(tmp_path / "local", table, rows_per_shard=40).digest
    assert write_snapshot(uri, table, rows_per_shard=40).digest == remote.digest
    with pytest.raises(DataError, match="must not hold another snapshot"):
        write_snapshot(uri, small())
    (cached,) = (tmp_path / "cache" / "mxpipe" / "shards").glob(f"{remote.shards[0].sha256}.arrow")
    cached.write_bytes(b"damaged")
    Snapshot.open(uri).verify()  # fetched anew
    with pytest.raises(DataError, match="must be a published snapshot"):
        Snapshot.open("memory://test/nowhere")
    files = fsspec.filesystem("memory").find("/test/snapshots/rows")
    assert len(files) == 1 + len(remote.shards)
    files = fsspec.filesystem("memory").ls("/test/snapshots/rows", detail=False)
    assert len(files) == 1 + len(remote.shards)


def test_a_failed_remote_attempt_leaves_no_snapshot():
    uri = "memory://test/failed"
    with pytest.raises(SchemaError), SnapshotWriter(uri) as writer:
        writer.commit([write_shard(writer.staging_uri, i, {name: [1]}) for i, name in enumerate("xy")])
    assert fsspec.filesystem("memory").find("/test/failed") == []


def test_timestamps_keep_their_meaning(tmp_path: Path):
    moments = [datetime.datetime(2013, 1, 1, 5, tzinfo=datetime.UTC), None]
    table = pa.table({"t": pa.array(moments, pa.timestamp("us", tz="America/New_York"))})
    snapshot = write_snapshot(tmp_path / "rows", table)
    assert snapshot.column_types == {"t": "timestamp[us, tz=America/New_York]"}
    assert snapshot.to_table()["t"].to_pylist()[0] == moments[0]
    assert snapshot.statistics["t"].minimum == int(moments[0].timestamp()) * 10**6


@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_snapshot_holds_others_and_files_published_in_the_same_moment(tmp_path: Path, place: str):
    target = f"{tmp_path}/rows" if place == "local" else f"memory://{tmp_path.name}/rows"

    def publish() -> Snapshot:
        with SnapshotWriter(target) as writer:
            record = write_shard(writer.staging_uri, 0, small())
            refused = write_shard(writer.staging_inside("refused"), 0, {"why": ["text"]})
            return writer.commit(
                [record], inside={"refused": [refused], "empty": []}, files={"notes.json": b"{}"}
            )

    digest = publish().digest
    assert publish().digest == digest, "the same again changes nothing, and removes nothing"
    snapshot = Snapshot.open(target)
    refused = snapshot.inside("refused")
    assert refused is not None
    assert refused.to_table().to_pydict() == {"why": ["text"]}
    assert snapshot.inside("empty") is None
    assert snapshot.file("notes.json") == b"{}"
    assert snapshot.file("other") is None
    system, path = fsspec.core.url_to_fs(target)
    for name, content in (
        ("notes.json", b"[]"),
        ("refused/manifest.json", system.cat(f"{path}/manifest.json")),
    ):
        system.pipe(f"{path}/{name}", content)
    with pytest.raises(SnapshotCorruptError, match=r"notes\.json must have sha256"):
        snapshot.file("notes.json")
    with pytest.raises(SnapshotCorruptError, match="refused must have digest"):
        snapshot.inside("refused")


def test_a_resumed_writer_finds_what_was_staged(tmp_path: Path):
    def attempt(error: Exception) -> None:
        with SnapshotWriter(tmp_path / "rows", resume=True) as writer:
            records.append(write_shard(writer.staging_uri, 0, small()))
            write_shard(writer.staging_inside("refused"), 0, small())
            raise error

    records: list[ShardRecord] = []
    with pytest.raises(StorageError):
        attempt(StorageError("the disk is full"))
    assert not (tmp_path / "rows").exists()
    with SnapshotWriter(tmp_path / "rows", resume=True) as writer:
        assert writer.commit(records).num_rows == 10
    assert names_in(tmp_path / "rows") == ["manifest.json", records[0].shard.name]
    (tmp_path / "rows").rename(tmp_path / "done")
    with pytest.raises(DataError):
        attempt(DataError("no retry mends this"))
    assert names_in(tmp_path) == ["done"]
