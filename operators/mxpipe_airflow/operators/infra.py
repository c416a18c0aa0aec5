"""Does the candidate serve? Asked of a real server, before anything is registered."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from mxpipe.errors import GateRejectedError, ServingError, SnapshotCorruptError
from mxpipe_airflow.keys import digest_json
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator
from mxpipe_airflow.operators.serve import ask

if TYPE_CHECKING:
    from airflow.sdk import Context

_REQUEST_ROWS = 64
_LEAST_SINGLE_REQUESTS = 32


class MxpipeInfraValidateOperator(MxpipeOperator):
    """Start a server of its own for the candidate, ask it for rows, and end it.

    Four things must hold: the model loads and is warm in time, a request of one row is answered within a
    bound, the server's memory stays within one, and its predictions are those that the evaluation has judged.
    Nothing is registered when one of them does not. The measurement is kept under the model's digest and the
    bounds, so that a run that is repeated finds it.

    Args:
        candidate: What the train stage returned. Templated.
        evaluation: What the evaluate stage returned: its predictions are what is compared with. Templated.
        holdout_uri: The rows that were judged. Templated.
        verdict: What the gate returned; a rejected candidate is not looked at. Templated.
        rows: How many rows to ask for, from the holdout's start. Templated.
        latency_milliseconds: Greatest 95th percentile of a request of one row, over loopback. Templated.
        memory_megabytes: Greatest resident memory of the server; None sets no bound. Templated.
        start_seconds: The server must be ready after so many seconds. Templated.
        tolerance: Greatest allowed difference of a prediction. Templated.

    Returns:
        ``rows, largest_difference, start_seconds, latency_milliseconds`` (median and 95th percentile),
        ``memory_megabytes, model_digest, report_uri, reused``.

    Raises:
        AirflowSkipException: The gate has rejected the candidate.
        AirflowFailException: A bound does not hold, or the model cannot be loaded.
        ServingError: The server did not come up; a retry may help.

    Example:
        >>> checked = MxpipeInfraValidateOperator(
        ...     task_id="infra_validate",
        ...     candidate="{{ ti.xcom_pull('train') }}",
        ...     evaluation="{{ ti.xcom_pull('evaluate') }}",
        ...     holdout_uri="{{ ti.xcom_pull('split')['holdout_uri'] }}",
        ...     latency_milliseconds=20.0,
        ... )
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "candidate",
        "evaluation",
        "holdout_uri",
        "verdict",
        "rows",
        "latency_milliseconds",
        "memory_megabytes",
        "start_seconds",
        "tolerance",
    )

    def __init__(
        self,
        *,
        candidate: Mapping[str, Any],
        evaluation: Mapping[str, Any],
        holdout_uri: str,
        verdict: Mapping[str, Any] | None = None,
        rows: int = 256,
        latency_milliseconds: float = 100.0,
        memory_megabytes: float | None = None,
        start_seconds: float = 60.0,
        tolerance: float = 1e-5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.evaluation = evaluation
        self.holdout_uri = holdout_uri
        self.verdict = verdict
        self.rows = rows
        self.latency_milliseconds = latency_milliseconds
        self.memory_megabytes = memory_megabytes
        self.start_seconds = start_seconds
        self.tolerance = tolerance
        self._measuring = False

    def run_stage(self, context: Context) -> Manifest:
        """Measure, or find the measurement of the same model and bounds."""
        from mxpipe.model import load_model
        from mxpipe.model.storage import write_json

        if self.verdict is not None and self.verdict["decision"] == "REJECT":
            raise AirflowSkipException(f"Not looked at: {' '.join(self.verdict['reasons'])}")
        model = load_model(self.candidate["model_uri"])
        judged = self.evaluation["digests"]["candidate"]
        if model.digest != judged:
            raise SnapshotCorruptError(
                f"[candidate] {self.candidate['model_uri']} must be the judged model, {judged};"
                f" got {model.digest}."
            )
        bounds = [self.latency_milliseconds, self.memory_megabytes, self.start_seconds, self.tolerance]
        name = digest_json([model.digest, self.evaluation["holdout_digest"], self.rows, bounds])[:16]
        place = self.hook.settings.root / "infra" / name
        report = place / "report.json"
        if reused := report.exists():
            measured = json.loads(report.read_text())
        else:
            measured = self._measure(place, [column.name for column in model.signature])
            write_json(report, measured)
        self.log.info(
            "%s rows differ by %.2g at most; %.2f ms a row; ready after %.2f s with %.0f MB",
            measured["rows"],
            measured["largest_difference"],
            measured["latency_milliseconds"]["p95"],
            measured["start_seconds"],
            measured["memory_megabytes"],
        )
        return {**measured, "model_digest": model.digest, "report_uri": str(report), "reused": reused}

    def _measure(self, place: Path, names: list[str]) -> dict[str, Any]:
        """Start the server, ask, and end it whatever happens."""
        from mxpipe.serve import process

        state_file = place / "server.json"
        began = time.perf_counter()
        self._measuring = True
        try:
            handle = process.start(
                model=self.candidate["model_uri"],
                name="candidate",
                state_file=state_file,
                timeout=float(self.start_seconds),
            )
            started = time.perf_counter() - began
            measured = self._ask(handle.url, names)
            memory = _resident_megabytes(handle.pid)
        finally:
            self._measuring = False
            process.stop(state_file, timeout=2.0)
        _require("the server's memory in MB", memory, self.memory_megabytes)
        return {**measured, "start_seconds": round(started, 3), "memory_megabytes": round(memory, 1)}

    def _ask(self, url: str, names: list[str]) -> dict[str, Any]:
        import numpy as np

        from mxpipe.data import Snapshot

        holdout = Snapshot.open(self.holdout_uri)
        if holdout.digest != self.evaluation["holdout_digest"]:
            raise SnapshotCorruptError(
                f"[holdout] {self.holdout_uri} must be the judged one, {self.evaluation['holdout_digest']};"
                f" got {holdout.digest}."
            )
        table = holdout.to_table(names).slice(0, int(self.rows))
        columns = {name: table.column(name).to_pylist() for name in names}
        with np.load(self.evaluation["predictions_uri"], allow_pickle=False) as kept:
            judged = kept["candidate"][: table.num_rows]
        served: list[Any] = []
        for start in range(0, table.num_rows, _REQUEST_ROWS):
            served += ask(f"{url}/invocations", _rows(columns, start, start + _REQUEST_ROWS))
        largest = float(np.max(np.abs(np.asarray(served, dtype=np.float64).reshape(judged.shape) - judged)))
        _require("the difference of a prediction", largest, self.tolerance)
        seconds = []
        for row in range(max(_LEAST_SINGLE_REQUESTS, table.num_rows // 4)):
            began = time.perf_counter()
            ask(f"{url}/invocations", _rows(columns, row % table.num_rows, row % table.num_rows + 1))
            seconds.append(time.perf_counter() - began)
        median, p95 = (1000 * float(np.quantile(seconds, part)) for part in (0.5, 0.95))
        _require("a request of one row in milliseconds", p95, self.latency_milliseconds)
        return {
            "rows": table.num_rows,
            "largest_difference": largest,
            "latency_milliseconds": {"median": round(median, 3), "p95": round(p95, 3)},
        }

    def on_kill(self) -> None:
        """Leave the measuring, which ends the server: a handler cannot wait for locks that it interrupts."""
        if self._measuring:
            raise ServingError("[infra] the candidate must be looked at; the task was ended meanwhile.")

    def lineage(self, manifest: Manifest) -> Lineage:
        """The candidate and the rows that it was asked for."""
        read = [
            Data(self.candidate["model_uri"], manifest["model_digest"]),
            Data(self.holdout_uri, self.evaluation["holdout_digest"]),
        ]
        return Lineage(read, [Data(manifest["report_uri"])])


def _require(what: str, value: float, bound: float | None) -> None:
    if bound is not None and not value <= float(bound):
        raise GateRejectedError(f"[infra] {what} must be at most {float(bound):g}; got {value:g}.")


def _rows(columns: Mapping[str, list[Any]], start: int, stop: int) -> dict[str, list[Any]]:
    return {name: values[start:stop] for name, values in columns.items()}


def _resident_megabytes(pid: int) -> float:
    """Greatest resident memory of a process so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
