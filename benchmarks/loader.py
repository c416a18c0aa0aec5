"""Loader throughput against a plain ``np.stack`` of Arrow columns, in one run.

Rows are 172 bytes wide (40 float32, an int64 category, a float32 label), memory-mapped from one snapshot.
Both sides end with contiguous matrices of the same rows; the loader normalises, looks up ids and checks
labels on the way. MB/s counts the bytes of the columns that were read; the two sides take turns.
"""

from __future__ import annotations

import argparse
import functools
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


def rate(run: Callable[[], int]) -> float:
    """MB/s of one run."""
    began = time.perf_counter()
    rows = run()
    return rows * ROW_BYTES / (time.perf_counter() - began) / 1e6


def compare(plain: Callable[[], int], ours: Callable[[], int], rounds: int) -> tuple[float, float]:
    """Median MB/s of both, measured in turns; the first round warms caches and does not count."""
    pairs = [(rate(plain), rate(ours)) for _ in range(rounds + 1)][1:]
    return statistics.median(first for first, _ in pairs), statistics.median(second for _, second in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--batch-size", type=int, default=4096)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        snapshot = make_snapshot(Path(folder), options.rows)
        features = FeatureSpec([f"x{i}" for i in range(NUMERIC)], ["category"], "label")
        preprocessor = Preprocessor.fit(snapshot, features)
        size, threads = options.batch_size, options.threads
        print(f"{options.rows:,} rows of {ROW_BYTES} bytes, batches of {size}, {threads} loader thread(s)")
        print(f"{'':10}{'np.stack MB/s':>15}{'loader MB/s':>15}{'ratio':>8}")
        for name, stack in (("in order", stack_columns), ("shuffled", shuffled_stack)):
            shuffle = name == "shuffled"
            loader = Loader(snapshot, preprocessor, batch_size=size, shuffle=shuffle, threads=threads)
            plain, ours = compare(
                functools.partial(stack, snapshot, size), functools.partial(epoch, loader), options.rounds
            )
            print(f"{name:10}{plain:15.0f}{ours:15.0f}{ours / plain:8.2f}", flush=True)


if __name__ == "__main__":
    main()
