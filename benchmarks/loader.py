"""Loader throughput against a plain ``np.stack`` of Arrow columns, in one run.

Rows are 172 bytes wide (40 float32, an int64 category, a float32 label), memory-mapped from one snapshot. Both sides
end with NumPy-compatible float32 matrices of the same rows; MB/s counts the bytes of the columns that were read.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mxpipe.data import FeatureSpec, Loader, Preprocessor, Snapshot, write_snapshot

NUMERIC = 40
ROW_BYTES = NUMERIC * 4 + 8 + 4


def make_snapshot(folder: Path, rows: int) -> Snapshot:
    random = np.random.default_rng(0)
    columns: dict[str, np.ndarray] = {
        f"x{i}": random.normal(size=rows).astype(np.float32) for i in range(NUMERIC)
    }
    columns["category"] = random.integers(0, 1000, rows)
    columns["label"] = (random.random(rows) < 0.3).astype(np.float32)
    return write_snapshot(folder / "rows", pa.table(columns))


def stack_columns(snapshot: Snapshot, batch_size: int) -> int:
    """The plain way: slices of memory-mapped columns, stacked to a matrix; no shuffling, no normalisation."""
    names = [f"x{i}" for i in range(NUMERIC)]
    rows = 0
    for shard in snapshot.shards:
        table = snapshot.shard_table(shard)
        for start in range(0, table.num_rows, batch_size):
            part = table.slice(start, batch_size)
            matrix = np.stack([part[name].to_numpy() for name in names], axis=1)
            category = part["category"].to_numpy().astype(np.int32)
            label = part["label"].to_numpy().copy()
            rows += len(matrix) + 0 * (len(category) + len(label))
    return rows


def shuffled_stack(snapshot: Snapshot, batch_size: int) -> int:
    """The same with shuffled rows: a take of every column."""
    names = [f"x{i}" for i in range(NUMERIC)]
    columns = {name: snapshot.to_table([name])[name].to_numpy() for name in (*names, "category", "label")}
    order = np.random.default_rng(0).permutation(snapshot.num_rows)
    rows = 0
    for start in range(0, snapshot.num_rows, batch_size):
        chosen = order[start : start + batch_size]
        matrix = np.stack([columns[name][chosen] for name in names], axis=1)
        category = columns["category"][chosen].astype(np.int32)
        label = columns["label"][chosen]
        rows += len(matrix) + 0 * (len(category) + len(label))
    return rows


def epoch(loader: Loader) -> int:
    return sum(batch.label.shape[0] for batch in loader)


def measure(run: Callable[[], int], repeats: int) -> float:
    """Median MB/s."""
    rates = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        rows = run()
        rates.append(rows * ROW_BYTES / (time.perf_counter() - began) / 1e6)
    return statistics.median(rates[1:])  # the first run warms the page cache


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        snapshot = make_snapshot(Path(folder), arguments.rows)
        features = FeatureSpec([f"x{i}" for i in range(NUMERIC)], ["category"], "label")
        preprocessor = Preprocessor.fit(snapshot, features)
        size = arguments.batch_size
        plain = {
            "in order": measure(lambda: stack_columns(snapshot, size), arguments.repeats),
            "shuffled": measure(lambda: shuffled_stack(snapshot, size), arguments.repeats),
        }
        print(
            f"{arguments.rows:,} rows of {ROW_BYTES} bytes, batches of {size}, {arguments.threads} loader thread(s)"
        )
        print(f"{'':10}{'np.stack MB/s':>15}{'loader MB/s':>15}{'ratio':>8}")
        for name, rate in plain.items():
            loader = Loader(
                snapshot, preprocessor, batch_size=size, shuffle=name == "shuffled", threads=arguments.threads
            )
            ours = measure(lambda loader=loader: epoch(loader), arguments.repeats)
            print(f"{name:10}{rate:15.0f}{ours:15.0f}{ours / rate:8.2f}")


if __name__ == "__main__":
    main()
