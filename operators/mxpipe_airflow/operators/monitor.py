"""Has what a model sees, or how well it does, moved away from its training? Once for each window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.links.mxpipe import MxpipeLink, ReportLink
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    import pyarrow
    from airflow.sdk import Asset, Context

    from mxpipe.data import Snapshot
    from mxpipe.model import Model
    from mxpipe.monitor import Labelled, MonitorDirectory, PredictionStatistics, Reference, Window


class MxpipeMonitorOperator(MxpipeOperator):
    """Compare a window of what a model saw with what its version was trained on.

    The window is taken from a snapshot, from a batch prediction, or - where neither is given - from what
    servers have counted into the monitor's directory (``mxpipe serve --monitor ROOT/monitors/NAME``). It only
    reads; no server waits for it.

    Where a threshold of the policy holds for a minimum of rows, and the cool-down has passed, one event is
    appended to ``ROOT/monitors/NAME/events.jsonl``, and the asset ``mxpipe://monitors/NAME`` has an event if
    an ``AssetAlias`` stands among the task's ``outlets``: retraining can be scheduled by it. Both happen once
    for a window, however often the task is retried or cleared.

    Args:
        model_name: Name in the registry.
        window: Id of the window, e.g. ``2013-W07``. Templated.
        start: Where it begins, ISO 8601. Templated.
        end: Where it ends, exclusive. Templated.
        monitor: Name of the monitor; the model's by default. Templated.
        alias: Whose version is looked at, where ``version`` is not given. Templated.
        version: The version. Templated.
        snapshot_uri: A snapshot of rows, to be predicted here. Templated.
        time_column: A date or time column of the snapshot that places its rows; all rows count without it.
            Templated.
        predictions_uri: What a batch prediction has written. Templated.
        label_column: Of the snapshot, or of ``labels_uri``: the truth, which makes performance known.
            Templated.
        labels_uri: Snapshot with the columns ``id`` and the label, for predictions that a server kept by
            request id. Templated.
        task: binary, classes or regression: how labels are judged.
        policy: See :class:`mxpipe.monitor.MonitorPolicy`, as JSON. Templated.

    Returns:
        ``monitor, window, model_name, version, verdict, rows, dropped, drifted`` (PSI by column), ``reasons,
        performance, report_uri, event`` (``appended``, ``present`` or ``cooling_down``; None without drift),
        and ``announced``: whether this run gave the asset its event.

    Raises:
        AirflowSkipException: The alias names no version yet.
        AirflowFailException: The sides cannot be compared, or the policy makes no sense.

    Example:
        >>> MxpipeMonitorOperator(
        ...     task_id="monitor",
        ...     model_name="flights",
        ...     window="2013-W07",
        ...     start="2013-02-11",
        ...     end="2013-02-18",
        ...     snapshot_uri="{{ ti.xcom_pull('ingest')['uri'] }}",
        ...     time_column="date",
        ... ).alias
        'champion'
    """

    template_fields: Sequence[str] = (
        *("conn_id", "model_name", "window", "start", "end", "monitor", "alias", "version"),
        *("snapshot_uri", "time_column", "predictions_uri", "label_column", "labels_uri", "policy"),
    )
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        model_name: str,
        window: str,
        start: str,
        end: str,
        monitor: str | None = None,
        alias: str = "champion",
        version: str | None = None,
        snapshot_uri: str | None = None,
        time_column: str | None = None,
        predictions_uri: str | None = None,
        label_column: str | None = None,
        labels_uri: str | None = None,
        task: str = "binary",
        policy: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_name = model_name
        self.window = window
        self.start = start
        self.end = end
        self.monitor = monitor
        self.alias = alias
        self.version = version
        self.snapshot_uri = snapshot_uri
        self.time_column = time_column
        self.predictions_uri = predictions_uri
        self.label_column = label_column
        self.labels_uri = labels_uri
        self.task = task
        self.policy = policy

    def run_stage(self, context: Context) -> Manifest:
        """Compare, report, and announce what has drifted."""
        from mxpipe.model import load_model
        from mxpipe.monitor import MonitorDirectory, MonitorPolicy, Window, check_window
        from mxpipe_airflow.assets.mxpipe import monitor_asset
        from mxpipe_mlflow import registry

        settings = self.hook.settings
        policy = MonitorPolicy.from_json(self.policy or {})
        window = Window.of(str(self.window), str(self.start), str(self.end))
        version = self._version()
        name = self.monitor or self.model_name
        directory = MonitorDirectory(settings.root / "monitors" / name)
        folder = registry.download(self.model_name, version, tracking_uri=settings.tracking_uri)
        model = load_model(folder)
        current, labelled = self._current(directory, window, version, model)
        checked = check_window(
            directory,
            window,
            current,
            self._reference(model, version),
            policy,
            labelled=labelled,
            model=self.model_name,
            version=version,
        )
        for reason in checked.comparison.reasons:
            self.log.info("%s", reason)
        asset = monitor_asset(name)
        announced = checked.event is not None and not _is_announced(asset, window.id)
        if checked.event is not None and announced:
            event = checked.event
            self.announce(
                context,
                asset,
                {
                    "window": event.window,
                    "start": event.start,
                    "end": event.end,
                    "model": self.model_name,
                    "version": version,
                    "rows": event.rows,
                },
            )
        return {
            "monitor": name,
            "window": window.id,
            "start": window.start.isoformat(),
            "end": window.end.isoformat(),
            "model_name": self.model_name,
            "version": version,
            "announced": announced,
            **checked.to_json(),
        }

    def _version(self) -> str:
        from airflow.sdk.exceptions import AirflowSkipException

        from mxpipe_mlflow import registry

        if self.version:
            return str(self.version)
        uri = self.hook.settings.tracking_uri
        found = registry.resolve(self.model_name, self.alias, tracking_uri=uri)
        if found is None:
            raise AirflowSkipException(f"{self.model_name}@{self.alias} names no version yet")
        return found.version

    def _reference(self, model: Model, version: str) -> Reference:
        """What the model says of its training, or the snapshot that its version was registered with."""
        from mxpipe.errors import DataError
        from mxpipe.monitor import Reference
        from mxpipe_airflow.operators.champion import TRAIN_TAG
        from mxpipe_airflow.operators.ingest import snapshot_at
        from mxpipe_mlflow import registry

        try:
            return Reference.of_model(model)
        except DataError:
            uri = self.hook.settings.tracking_uri
            tags = registry.get(self.model_name, version, tracking_uri=uri).tags
            snapshot = snapshot_at(tags[TRAIN_TAG]) if TRAIN_TAG in tags else None
            if snapshot is None:
                raise
            return Reference.of_snapshot(snapshot)

    def _current(
        self, directory: MonitorDirectory, window: Window, version: str, model: Model
    ) -> tuple[PredictionStatistics, Labelled | None]:
        """The window's statistics, and its rows whose label is known."""
        from mxpipe.data import Snapshot
        from mxpipe.errors import SpecificationError
        from mxpipe.monitor import PredictionStatistics

        if self.snapshot_uri and self.predictions_uri:
            raise SpecificationError("[monitor] a window must come from one place; got two.")
        if self.snapshot_uri:
            return self._of_snapshot(Snapshot.open(self.snapshot_uri), window, model)
        if self.predictions_uri:
            from mxpipe.batch import Predictions

            return Predictions.open(self.predictions_uri).statistics, None
        found = directory.collect(version, window) or PredictionStatistics.of_model(model)
        return found, self._labelled(directory, window, version)

    def _of_snapshot(
        self, snapshot: Snapshot, window: Window, model: Model
    ) -> tuple[PredictionStatistics, Labelled | None]:
        import numpy as np

        from mxpipe.monitor import Labelled, PredictionStatistics

        statistics = PredictionStatistics.of_model(model)
        labels, predictions = [], []
        for table in self._rows(snapshot, window, [column.name for column in model.signature]):
            given = model.predict(table)
            statistics.update(table, given)
            if self.label_column:
                labels.append(table.column(self.label_column).to_numpy())
                predictions.append(given)
        if not labels:
            return statistics, None
        return statistics, Labelled(np.concatenate(labels), np.concatenate(predictions), self.task)

    def _rows(self, snapshot: Snapshot, window: Window, columns: Sequence[str]) -> Iterator[pyarrow.Table]:
        """The snapshot's rows of the window, shard by shard."""
        further = [name for name in (self.time_column, self.label_column) if name]
        for table in snapshot.tables(list(dict.fromkeys([*columns, *further]))):
            inside = _within(table, self.time_column, window) if self.time_column else table
            if inside.num_rows:
                yield inside

    def _labelled(self, directory: MonitorDirectory, window: Window, version: str) -> Labelled | None:
        from mxpipe.data import Snapshot
        from mxpipe.errors import SpecificationError
        from mxpipe.monitor import Labelled, label_pairs

        if not self.labels_uri:
            return None
        if not self.label_column:
            raise SpecificationError("[monitor] label_column must be given with labels_uri.")
        table = Snapshot.open(self.labels_uri).to_table(["id", self.label_column])
        known = dict(
            zip(table.column("id").to_pylist(), table.column(self.label_column).to_pylist(), strict=True)
        )
        pairs = label_pairs(directory.predictions(version, window), known)
        return Labelled(*pairs, task=self.task)

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The report."""
        return {ReportLink: manifest["report_uri"]}

    def lineage(self, manifest: Manifest) -> Lineage:
        """The rows and the model in, the report out."""
        inputs = [Data(f"mxpipe://models/{self.model_name}", str(manifest["version"]))]
        inputs += [Data(uri) for uri in (self.snapshot_uri, self.predictions_uri) if uri]
        return Lineage(inputs, [Data(manifest["report_uri"])])


def _within(table: pyarrow.Table, column: str, window: Window) -> pyarrow.Table:
    """The rows whose date or time lies in a window; times without a zone are UTC."""
    import pyarrow
    from pyarrow import compute

    values = table.column(column)
    kind = pyarrow.timestamp("us", tz="UTC")
    if pyarrow.types.is_timestamp(values.type) and values.type.tz is None:
        values = compute.assume_timezone(values, "UTC")
    elif not pyarrow.types.is_timestamp(values.type):
        values = compute.assume_timezone(values.cast(pyarrow.timestamp("us")), "UTC")
    values = values.cast(kind)
    first = compute.greater_equal(values, pyarrow.scalar(window.start, kind))
    last = compute.less(values, pyarrow.scalar(window.end, kind))
    return table.filter(compute.and_(first, last))


def _is_announced(asset: Asset, window: str) -> bool:
    """Whether Airflow has an event of this asset for a window already."""
    from airflow.sdk.execution_time.context import InletEventsAccessor

    events = InletEventsAccessor(asset_name=asset.name, asset_uri=asset.uri)
    return any((event.extra or {}).get("window") == window for event in events)
