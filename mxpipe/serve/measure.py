"""What is measured of each version: requests, errors, latency, predictions; and the shadow's distance.

Two kinds of numbers: counters since the server's start, for Prometheus; and what was measured since the split
was set, by which a canary is judged against the version beside it in the same span of time.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import numpy as np

from mxpipe.data.sketch import QuantileSketch
from mxpipe.serve.metrics import BUCKETS, escape

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_BUFFERED = 512  # single values are gathered before they are sorted in: a sketch takes many as fast as one
_CAPACITY = 1024


class Summary:
    """Count, sum and quantiles of a stream of numbers.

    Example:
        >>> summary = Summary()
        >>> summary.add([1.0, 2.0, 3.0])
        >>> summary.report()["mean"], summary.report()["quantiles"]["0.5"]
        (2.0, 2.0)
    """

    def __init__(self) -> None:
        self.count, self.sum = 0, 0.0
        self._buffer: list[float] = []
        self._sketch = QuantileSketch(_CAPACITY)

    def add(self, values: list[float]) -> None:
        """Add finite numbers."""
        self.count += len(values)
        self.sum += sum(values)
        self._buffer += values
        if len(self._buffer) >= _BUFFERED:
            self._empty_buffer()

    def quantiles(self) -> dict[str, float]:
        """Quantiles by probability; empty without numbers."""
        self._empty_buffer()
        if not self.count:
            return {}
        found = self._sketch.quantiles(_QUANTILES)
        return {f"{probability:g}": value for probability, value in zip(_QUANTILES, found, strict=True)}

    def report(self) -> dict[str, Any]:
        """As JSON values."""
        mean = self.sum / self.count if self.count else None
        return {"count": self.count, "mean": mean, "quantiles": self.quantiles()}

    def _empty_buffer(self) -> None:
        if self._buffer:
            self._sketch.update(np.array(self._buffer))
            self._buffer = []


class _Counters:
    """Since the server's start."""

    def __init__(self) -> None:
        self.requests = self.errors = self.rows = 0
        self.seconds = 0.0
        self.buckets = [0] * (len(BUCKETS) + 1)


class _Measured:
    """Since the split was set."""

    def __init__(self) -> None:
        self.requests = self.errors = self.rows = self.skipped = 0
        self.seconds, self.predictions, self.difference = Summary(), Summary(), Summary()


class VersionMeasures:
    """Measures by version; safe to use from any thread.

    Example:
        >>> measures = VersionMeasures()
        >>> measures.observe("3", 0.002, np.float32([0.25, 0.75]))
        >>> measures.report()["3"]["predictions"]["mean"]
        0.5
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, _Counters] = {}
        self._measured: dict[str, _Measured] = {}

    def restart(self) -> None:
        """Measure from now on; the counters go on."""
        with self._lock:
            self._measured = {}

    def observe(self, version: str, seconds: float, predictions: np.ndarray[Any, Any]) -> None:
        """Count one prediction of a version.

        Args:
            version: The version.
            seconds: How long it took.
            predictions: What it gave, shape (n,) or (n, k); of k outputs all are in one distribution.
        """
        values = np.asarray(predictions, dtype=np.float64).ravel()
        finite = values[np.isfinite(values)].tolist()
        with self._lock:
            counters, measured = self._of(version)
            counters.requests += 1
            counters.rows += len(predictions)
            counters.seconds += seconds
            counters.buckets[bisect_left(BUCKETS, seconds)] += 1
            measured.requests += 1
            measured.rows += len(predictions)
            measured.seconds.add([seconds])
            measured.predictions.add(finite)

    def count_error(self, version: str) -> None:
        """Count a prediction that failed by the version's own fault."""
        with self._lock:
            for counted in self._of(version):
                counted.errors += 1

    def count_skipped(self, version: str) -> None:
        """Count a request that a shadow was too slow for."""
        with self._lock:
            self._of(version)[1].skipped += 1

    def compare(self, version: str, answered: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> None:
        """Count how far a shadow's predictions lie from those that were answered."""
        ours, theirs = (np.asarray(values, dtype=np.float64).ravel() for values in (answered, other))
        distance = np.abs(ours - theirs)
        with self._lock:
            self._of(version)[1].difference.add(distance[np.isfinite(distance)].tolist())

    def report(self) -> dict[str, Any]:
        """What was measured since the split was set, by version, as JSON values."""
        with self._lock:
            return {
                version: {
                    "requests": item.requests,
                    "errors": item.errors,
                    "rows": item.rows,
                    "skipped": item.skipped,
                    "seconds": item.seconds.report(),
                    "predictions": item.predictions.report(),
                    "shadow_difference": item.difference.report() if item.difference.count else None,
                }
                for version, item in sorted(self._measured.items())
            }

    def render(self) -> Iterator[str]:
        """Lines in the Prometheus text format."""
        with self._lock:
            counters, measured = sorted(self._counters.items()), sorted(self._measured.items())
            for name, text in (
                ("requests", "Predictions by version."),
                ("errors", "Predictions that failed by the version's own fault."),
                ("rows", "Rows by version."),
            ):
                yield f"# HELP mxpipe_version_{name}_total {text}"
                yield f"# TYPE mxpipe_version_{name}_total counter"
                for version, item in counters:
                    label = f'version="{escape(version)}"'
                    yield f"mxpipe_version_{name}_total{{{label}}} {getattr(item, name)}"
            yield "# HELP mxpipe_version_seconds Time of a prediction, without its transport."
            yield "# TYPE mxpipe_version_seconds histogram"
            for version, item in counters:
                yield from _histogram_lines(f'version="{escape(version)}"', item)
            yield "# HELP mxpipe_version_prediction Predictions since the split was set."
            yield "# TYPE mxpipe_version_prediction summary"
            for version, found in measured:
                yield from _summary_lines("mxpipe_version_prediction", version, found.predictions)
            yield "# HELP mxpipe_shadow_difference Distance of a shadow's predictions from those answered."
            yield "# TYPE mxpipe_shadow_difference summary"
            for version, found in measured:
                if found.difference.count:
                    yield from _summary_lines("mxpipe_shadow_difference", version, found.difference)

    def _of(self, version: str) -> tuple[_Counters, _Measured]:
        return (
            self._counters.setdefault(version, _Counters()),
            self._measured.setdefault(version, _Measured()),
        )


def _histogram_lines(label: str, item: _Counters) -> Iterator[str]:
    total = 0
    for bound, count in zip((*BUCKETS, "+Inf"), item.buckets, strict=True):
        total += count
        yield f'mxpipe_version_seconds_bucket{{{label},le="{bound}"}} {total}'
    yield f"mxpipe_version_seconds_sum{{{label}}} {item.seconds:.6f}"
    yield f"mxpipe_version_seconds_count{{{label}}} {total}"


def _summary_lines(name: str, version: str, summary: Summary) -> Iterator[str]:
    label = f'version="{escape(version)}"'
    for probability, value in summary.quantiles().items():
        yield f'{name}{{{label},quantile="{probability}"}} {value:.6g}'
    yield f"{name}_sum{{{label}}} {summary.sum:.6g}"
    yield f"{name}_count{{{label}}} {summary.count}"
