"""Counters of the server in the Prometheus text format, without a client library."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the latency histogram, seconds."""


class ServerMetrics:
    """Requests, errors and latency by endpoint; safe to use from any thread.

    Example:
        >>> metrics = ServerMetrics()
        >>> metrics.observe("infer", 200, 0.004)
        >>> 'mxpipe_requests_total{endpoint="infer",status="200"} 1' in metrics.render({}, {})
        True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._rows: Counter[str] = Counter()

    def observe(self, endpoint: str, status: int, seconds: float, rows: int = 0) -> None:
        """Count one answered request.

        Args:
            endpoint: Short name of the route.
            status: HTTP status of the answer.
            seconds: From its first byte read to its answer.
            rows: Rows predicted.
        """
        with self._lock:
            self._requests[endpoint, status] += 1
            self._seconds[endpoint] += seconds
            self._rows[endpoint] += rows
            buckets = self._buckets.setdefault(endpoint, [0] * (len(BUCKETS) + 1))
            buckets[bisect_left(BUCKETS, seconds)] += 1

    def render(self, gauges: Mapping[str, float], model: Mapping[str, str]) -> str:
        """The text of ``/metrics``.

        Args:
            gauges: Present values by metric name.
            model: Labels of the served model.
        """
        with self._lock:
            lines = [
                "# HELP mxpipe_requests_total Answered requests.",
                "# TYPE mxpipe_requests_total counter",
            ]
            for (endpoint, status), count in sorted(self._requests.items()):
                lines.append(f'mxpipe_requests_total{{endpoint="{endpoint}",status="{status}"}} {count}')
            lines += ["# HELP mxpipe_rows_total Rows predicted.", "# TYPE mxpipe_rows_total counter"]
            for endpoint, rows in sorted(self._rows.items()):
                lines.append(f'mxpipe_rows_total{{endpoint="{endpoint}"}} {rows}')
            lines += self._histogram()
        for name, value in gauges.items():
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        if model:
            labels = ",".join(f'{name}="{escape(value)}"' for name, value in model.items())
            lines += ["# TYPE mxpipe_model_info gauge", f"mxpipe_model_info{{{labels}}} 1"]
        return "\n".join(lines) + "\n"

    def _histogram(self) -> list[str]:
        name = "mxpipe_request_seconds"
        lines = [f"# HELP {name} Time from request to answer.", f"# TYPE {name} histogram"]
        for endpoint, buckets in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*BUCKETS, "+Inf"), buckets, strict=True):
                total += count
                lines.append(f'{name}_bucket{{endpoint="{endpoint}",le="{bound}"}} {total}')
            lines.append(f'{name}_sum{{endpoint="{endpoint}"}} {self._seconds[endpoint]:.6f}')
            lines.append(f'{name}_count{{endpoint="{endpoint}"}} {total}')
        return lines


def escape(label: str) -> str:
    """A label's value as the text format wants it."""
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
