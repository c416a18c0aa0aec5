"""From a snapshot to a training set and a frozen holdout: validate, split. `ingest.py` makes the snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.keys import digest_json
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.links.mxpipe import MxpipeLink, ReportLink, report_url
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator
from mxpipe_airflow.operators.ingest import snapshot_at

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mxpipe.data import Snapshot


def split_once(
    snapshot: Snapshot, place: Path, column: str, at: str, until: str | None = None
) -> tuple[Snapshot, Snapshot]:
    """Split a snapshot in time, or find the same split again.

    Args:
        snapshot: The snapshot.
        place: Directory of all splits.
        column: An ordered column.
        at: The first value of the later part.
        until: The first value that belongs to neither part.

    Returns:
        The rows before and those after.
    """
    from mxpipe.data import split_snapshot

    rule = [snapshot.digest, column, at] if until is None else [snapshot.digest, column, at, until]
    folder = place / digest_json(rule)[:16]
    before, after = snapshot_at(str(folder / "train")), snapshot_at(str(folder / "holdout"))
    if before is None or after is None:
        split = split_snapshot(
            snapshot, folder / "train", folder / "holdout", column=column, at=at, until=until
        )
        before, after = split.train, split.holdout
    return before, after


class MxpipeValidateOperator(MxpipeOperator):
    """Check a snapshot against expectations, and measure drift against what the champion was trained on.

    Args:
        snapshot_uri: The snapshot. Templated.
        expectations: See :class:`mxpipe.data.Expectations`, as JSON. Templated.
        reference_uri: Snapshot that the champion was trained on; empty without a champion. Templated.
        recent: ``column`` and ``at``: drift is measured on the rows from there on, and not on those that the
            champion may have seen. Templated. All rows by default.

    Returns:
        ``ok``, the number of checks, failures and warnings in words, the greatest drifts, the report's URI.

    Raises:
        AirflowFailException: A check of severity ``error`` did not hold. The report is written all the same.

    Example:
        >>> validate = MxpipeValidateOperator(
        ...     task_id="validate",
        ...     snapshot_uri="{{ ti.xcom_pull('ingest')['uri'] }}",
        ...     expectations={"columns": {"distance": {"type": "float64", "minimum": 0}}},
        ... )
    """

    template_fields: Sequence[str] = ("conn_id", "snapshot_uri", "expectations", "reference_uri", "recent")
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        snapshot_uri: str,
        expectations: Mapping[str, Any],
        reference_uri: str | None = None,
        recent: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot_uri = snapshot_uri
        self.expectations = expectations
        self.reference_uri = reference_uri
        self.recent = recent

    def run_stage(self, context: Context) -> Manifest:
        """Check, write the report, then fail if it says so."""
        from mxpipe.data import Snapshot, validate_snapshot
        from mxpipe.model.storage import write_json

        snapshot = Snapshot.open(self.snapshot_uri)
        reference = snapshot_at(self.reference_uri) if self.reference_uri else None
        if self.reference_uri and reference is None:
            self.log.warning("No snapshot at %s any more: drift is not measured", self.reference_uri)
        report = validate_snapshot(snapshot, dict(self.expectations))
        if reference is not None:
            bounds = {"drift": self.expectations.get("drift", {})}
            recent = validate_snapshot(self._recent_rows(snapshot), bounds, reference.statistics)
            checks = (*report.checks, *(check for check in recent.checks if check.name == "drift"))
            report = dataclasses.replace(report, checks=checks, drift=recent.drift)
        suite = digest_json([self.expectations, self.recent, reference.digest if reference else None])
        place = self.hook.settings.root / "reports" / "validation"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{snapshot.digest[:16]}-{suite[:8]}.json"
        write_json(path, report.to_json())
        for check in report.warnings:
            self.log.warning("%s", check)
        report.raise_for_failures()
        drift = sorted(report.drift.items(), key=lambda item: -item[1])
        return {
            "ok": report.ok,
            "snapshot_uri": snapshot.uri,
            "digest": snapshot.digest,
            "checks": len(report.checks),
            "warnings": [str(check)[:200] for check in report.warnings[:10]],
            "drift": {name: round(value, 4) for name, value in drift[:12]},
            "report_uri": str(path),
        }

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """All checks."""
        return {ReportLink: report_url(manifest["report_uri"])}

    def lineage(self, manifest: Manifest) -> Lineage:
        """The snapshot, what it was compared with, and the report."""
        read = [Data(manifest["snapshot_uri"], manifest["digest"])]
        if self.reference_uri:
            read.append(Data(self.reference_uri))
        return Lineage(read, [Data(manifest["report_uri"])])

    def _recent_rows(self, snapshot: Snapshot) -> Snapshot:
        from pyarrow import compute

        if self.recent is None:
            return snapshot
        column, at = self.recent["column"], self.recent["at"]
        first = compute.min(snapshot.to_table([column]).column(column)).as_py()
        if str(first) >= at:  # all rows are recent ones
            return snapshot
        return split_once(snapshot, self.hook.settings.root / "splits", column, at)[1]


class MxpipeSplitOperator(MxpipeOperator):
    """Split a snapshot in time into training rows and a frozen holdout that is strictly later.

    Args:
        snapshot_uri: The snapshot. Templated.
        column: An ordered column.
        at: The first value of the holdout. Templated.
        until: The first value that belongs to neither part: a window of a backtest ends there. Templated.

    Returns:
        ``train_uri, holdout_uri``, their digests and rows, and one ``digest`` over both.

    Example:
        >>> split = MxpipeSplitOperator(
        ...     task_id="split",
        ...     snapshot_uri="{{ ti.xcom_pull('validate')['snapshot_uri'] }}",
        ...     column="date",
        ...     at="2013-01-25",
        ... )
    """

    template_fields: Sequence[str] = ("conn_id", "snapshot_uri", "column", "at", "until")

    def __init__(
        self, *, snapshot_uri: str, column: str, at: str, until: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot_uri = snapshot_uri
        self.column = column
        self.at = at
        self.until = until

    def run_stage(self, context: Context) -> Manifest:
        """Split, or find the same split again."""
        from mxpipe.data import Snapshot

        snapshot = Snapshot.open(self.snapshot_uri)
        place = self.hook.settings.root / "splits"
        train, holdout = split_once(snapshot, place, self.column, self.at, self.until)
        self.log.info("%s rows to train on, %s to judge by", f"{train.num_rows:,}", f"{holdout.num_rows:,}")
        return {
            "train_uri": train.uri,
            "train_digest": train.digest,
            "train_rows": train.num_rows,
            "holdout_uri": holdout.uri,
            "holdout_digest": holdout.digest,
            "holdout_rows": holdout.num_rows,
            "digest": digest_json([train.digest, holdout.digest]),
            "at": self.at,
        }

    def lineage(self, manifest: Manifest) -> Lineage:
        """The snapshot and its two parts."""
        parts = [
            Data(manifest[f"{part}_uri"], manifest[f"{part}_digest"], manifest[f"{part}_rows"])
            for part in ("train", "holdout")
        ]
        return Lineage([Data(self.snapshot_uri)], parts)
