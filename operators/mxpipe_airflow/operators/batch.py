"""Predictions for all rows of a snapshot, once for the same rows and the same model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mxpipe.errors import DataError, SpecificationError
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mxpipe.batch import PinnedModel, PredictionOptions, Predictions
    from mxpipe.data import Snapshot

ENGINES = ("local", "spark", "dask")


class MxpipeBatchPredictOperator(MxpipeOperator):
    """Predict all rows of a snapshot and publish keys and predictions as a snapshot.

    The place of the predictions follows from the digests of rows and model, and from the options: a retry
    finds finished predictions, or goes on with the partitions that are not finished. An alias is resolved
    once, to a version. Nothing is published before all of it is there; the engine's processes end with the
    task's own.

    Args:
        snapshot_uri: The rows. Templated.
        model_uri: A model folder, ``models:/name@alias`` or ``models:/name/version``. Templated.
        keys: Columns that are carried through. Templated.
        required: Columns of the model that must have a value; a row without is refused. Templated.
        output_names: Names of the predictions' columns; the model's own by default. Templated.
        engine: ``local`` (this process), ``spark`` or ``dask``. Templated.
        engine_options: For Spark ``master`` and ``config``, for Dask ``scheduler`` and ``workers``.
            Templated.
        max_refused: The task fails where a greater fraction of the rows is refused; predictions and refused
            rows are there to be looked at all the same. Templated.

    Returns:
        ``uri, digest, rows, predicted, refused, reasons, errors_uri, model_uri, model_digest, input_digest,
        reused, rows_per_second``. ``mxpipe.batch.Predictions.open(uri)`` reads the rest.

    Raises:
        AirflowFailException: The rows do not fit the model, or too many of them were refused.

    Example:
        >>> MxpipeBatchPredictOperator(
        ...     task_id="predict",
        ...     snapshot_uri="{{ ti.xcom_pull('ingest')['uri'] }}",
        ...     model_uri="models:/flight_delays@champion",
        ...     keys=["flight", "day"],
        ... ).engine
        'local'
    """

    template_fields: Sequence[str] = (
        *("conn_id", "snapshot_uri", "model_uri", "keys", "required", "output_names"),
        *("engine", "engine_options", "max_refused"),
    )

    def __init__(
        self,
        *,
        snapshot_uri: str,
        model_uri: str,
        keys: Sequence[str] = (),
        required: Sequence[str] = (),
        output_names: Sequence[str] | None = None,
        engine: str = "local",
        engine_options: Mapping[str, Any] | None = None,
        max_refused: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.snapshot_uri = snapshot_uri
        self.model_uri = model_uri
        self.keys = keys
        self.required = required
        self.output_names = output_names
        self.engine = engine
        self.engine_options = engine_options
        self.max_refused = max_refused

    def run_stage(self, context: Context) -> Manifest:
        """Find the predictions or make them."""
        from mxpipe.batch import PredictionOptions, find_predictions, place_name, resolve_model
        from mxpipe.data import Snapshot

        if self.engine not in ENGINES:
            raise SpecificationError(
                f"[batch] engine must be one of {', '.join(ENGINES)}; got {self.engine!r}."
            )
        snapshot = Snapshot.open(self.snapshot_uri)
        tracking_uri = self.hook.settings.tracking_uri
        registry = {"tracking_uri": tracking_uri} if tracking_uri else {}
        model = resolve_model(self.model_uri, options=registry)
        options = PredictionOptions(self.keys, self.required, self.output_names)
        name = place_name(model, options, snapshot.digest)
        uri = str(self.hook.settings.root / "predictions" / self.dag_id / name)
        self.log.info("%s rows by %s into %s", f"{snapshot.num_rows:,}", model.uri, uri)
        started = time.monotonic()
        done = find_predictions(uri, model, options, snapshot.digest)
        if done is not None:
            self.log.info("They are there already: nothing is computed again")
        else:
            done = self._predict(snapshot, model, uri, options)
        seconds = time.monotonic() - started
        self._judge(done)
        return {
            **done.to_json(),
            "model_uri": model.uri,
            "rows_per_second": None if done.reused else round(done.rows / max(seconds, 1e-9)),
        }

    def _predict(
        self, snapshot: Snapshot, model: PinnedModel, uri: str, options: PredictionOptions
    ) -> Predictions:
        given = dict(self.engine_options or {})
        if self.engine == "spark":
            import mxpipe_spark

            with mxpipe_spark.local_session(f"{self.dag_id}.{self.task_id}", **given) as spark:
                return mxpipe_spark.predict_snapshot(spark, snapshot, model, uri, options)
        if self.engine == "dask":
            import mxpipe_dask

            with mxpipe_dask.connect(**given):
                return mxpipe_dask.predict_snapshot(snapshot, model, uri, options)
        from mxpipe.batch import predict_snapshot

        return predict_snapshot(snapshot, model, uri, options, threads=self.hook.settings.threads)

    def _judge(self, done: Predictions) -> None:
        refused = sum(done.refused.values())
        for reason, count in sorted(done.refused.items(), key=lambda item: -item[1])[:10]:
            self.log.warning("%s rows refused: %s", f"{count:,}", reason)
        if refused > float(self.max_refused) * done.rows:
            raise DataError(
                f"[batch] at most {float(self.max_refused):.2%} of the rows may be refused; got {refused} of "
                f"{done.rows}, told in {done.uri}/errors."
            )

    def lineage(self, manifest: Manifest) -> Lineage:
        """The rows and the model; the predictions."""
        read = [
            Data(self.snapshot_uri, manifest["input_digest"], manifest["rows"]),
            Data(manifest["model_uri"], manifest["model_digest"]),
        ]
        return Lineage(read, [Data(manifest["uri"], manifest["digest"], manifest["predicted"])])
