"""Look at one window: compare, write the report, and note an event where it has drifted. Repeatable."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mxpipe.model.storage import storage_errors, write_json
from mxpipe.monitor.compare import Comparison, Labelled, MonitorPolicy, Reference, Verdict, compare
from mxpipe.monitor.directory import MonitorDirectory, Window
from mxpipe.monitor.events import DriftEvent, Outcome
from mxpipe.monitor.statistics import PredictionStatistics

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Checked:
    """What came of a look at a window.

    Attributes:
        comparison: What was found.
        report: The report's page.
        event: The window's event, where there is one: of this look or of an earlier one.
        outcome: What became of the event of this look; None where nothing has drifted.
    """

    comparison: Comparison
    report: Path
    event: DriftEvent | None
    outcome: Outcome | None

    def to_json(self) -> dict[str, Any]:
        """A short summary as JSON values; the report's ``.json`` holds all of it."""
        return {
            "verdict": str(self.comparison.verdict),
            "rows": self.comparison.rows,
            "dropped": self.comparison.dropped,
            "reasons": [reason[:200] for reason in self.comparison.reasons[:10]],
            "drifted": dict(list(self.comparison.drifted.items())[:20]),
            "performance": self.comparison.performance,
            "report_uri": str(self.report),
            "event": str(self.outcome) if self.outcome else None,
        }


def check_window(
    directory: MonitorDirectory,
    window: Window,
    current: PredictionStatistics,
    reference: Reference,
    policy: MonitorPolicy,
    *,
    labelled: Labelled | None = None,
    model: str | None = None,
    version: str | None = None,
) -> Checked:
    """Compare a window's statistics with training, write the report, note an event.

    The same window, looked at again, replaces its report and adds no second event.

    Args:
        directory: The monitor's files.
        window: The window.
        current: Its statistics; see :meth:`MonitorDirectory.collect`.
        reference: Training.
        policy: When it is drift.
        labelled: Rows whose label is known by now.
        model: Name of the model.
        version: Its version.

    Raises:
        StorageError: The disk is full or read-only.
        DataError: The sides cannot be compared.
    """
    from mxpipe.monitor.report import write_report

    comparison = compare(current, reference, policy, labelled)
    page = directory.report_path(window.id, ".html")
    with storage_errors(page):
        page.parent.mkdir(parents=True, exist_ok=True)
    found = {
        "monitor": directory.name,
        "window": {"id": window.id, "start": window.start.isoformat(), "end": window.end.isoformat()},
        "model": model,
        "version": version,
        "policy": policy.to_json(),
    } | comparison.to_json()
    write_json(directory.report_path(window.id, ".json"), found)
    write_report(found, page)
    outcome = None
    if comparison.verdict is Verdict.DRIFT:
        event = DriftEvent(
            monitor=directory.name,
            window=window.id,
            start=window.start.isoformat(),
            end=window.end.isoformat(),
            rows=comparison.rows,
            reasons=comparison.reasons[:20],
            model=model,
            version=version,
            columns=dict(list(comparison.drifted.items())[:50]),
            report=str(page),
        )
        outcome = directory.events.append(event, policy.cool_down)
    if policy.keep_days is not None:
        directory.remove_before(window.start - timedelta(days=policy.keep_days))
    return Checked(comparison, page, directory.events.find(window.id), outcome)
