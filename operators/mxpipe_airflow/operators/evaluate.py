"""Candidate against champion on the same rows, and the verdict."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe_airflow.assets.mxpipe import asset_uri
from mxpipe_airflow.keys import digest_json
from mxpipe_airflow.lineage import Data, Lineage
from mxpipe_airflow.links.mxpipe import MxpipeLink, ReportLink, report_url
from mxpipe_airflow.operators.base import Manifest, MxpipeOperator

if TYPE_CHECKING:
    import numpy as np
    from airflow.sdk import Context

    from mxpipe.data import Snapshot
    from mxpipe.model import Model


def predict(model: Model, snapshot: Snapshot) -> np.ndarray[Any, Any]:
    """Predictions for all rows of a snapshot: float64 (n,), or (n, k) of a model with k outputs."""
    import numpy as np

    table = snapshot.to_table([column.name for column in model.signature])
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    return np.asarray(model.predict(columns), dtype=np.float64)


class MxpipeEvaluateOperator(MxpipeOperator):
    """Judge the candidate and the pinned champion on one frozen holdout, row by row.

    Args:
        candidate: What the train stage returned. Templated.
        champion: What the resolve stage returned; without a version the candidate is judged alone. Templated.
        holdout_uri: The holdout. Templated.
        holdout_digest: Its digest, as the split stage said it. Templated.
        label_column: The label column: 0 or 1, a class from 0 on, or a number, by task. Templated, as all
            that follows but the task is.
        task: binary, classes or regression: see :mod:`mxpipe.train.tasks`.
        metric: What the two are compared by; auc, log_loss or mae by default, by task. The gate's policy must
            name the same.
        baseline_column: For regression, a column with a forecast that costs nothing, such as the value of a
            week before: the metrics then hold the skill over it.
        slices: Columns by whose values the metrics are also told.
        groups: Columns by whose values rows share their luck, such as an airport's hour: the bootstrap draws
            whole groups. Without any it draws rows.
        samples: Bootstrap samples of the paired comparison.
        seed: Seed of the bootstrap.

    Returns:
        Metrics of ``candidate`` and ``champion`` (or None), their paired ``comparison``, and the URIs of the
        whole evaluation and of the predictions.

    Raises:
        AirflowFailException: The holdout is not the one that was split off.

    Example:
        >>> MxpipeEvaluateOperator(
        ...     task_id="evaluate",
        ...     candidate="{{ ti.xcom_pull('train') }}",
        ...     champion="{{ ti.xcom_pull('resolve') }}",
        ...     holdout_uri="{{ ti.xcom_pull('split')['holdout_uri'] }}",
        ...     holdout_digest="{{ ti.xcom_pull('split')['holdout_digest'] }}",
        ...     label_column="late",
        ...     slices=["carrier"],
        ... ).evaluation_task
        'binary'
    """

    template_fields: Sequence[str] = (
        "conn_id",
        "candidate",
        "champion",
        "holdout_uri",
        "holdout_digest",
        "label_column",
        "metric",
        "baseline_column",
        "slices",
        "groups",
        "samples",
        "seed",
    )
    operator_extra_links = (ReportLink(),)

    def __init__(
        self,
        *,
        candidate: Mapping[str, Any],
        champion: Mapping[str, Any],
        holdout_uri: str,
        holdout_digest: str,
        label_column: str,
        task: str = "binary",
        metric: str | None = None,
        baseline_column: str | None = None,
        slices: Sequence[str] = (),
        groups: Sequence[str] = (),
        samples: int = 1000,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.candidate = candidate
        self.champion = champion
        self.holdout_uri = holdout_uri
        self.holdout_digest = holdout_digest
        self.label_column = label_column
        # `task` is Airflow's own word on an operator.
        self.evaluation_task = task
        self.metric = metric
        self.baseline_column = baseline_column
        self.slices = slices
        self.groups = groups
        self.samples = samples
        self.seed = seed

    def run_stage(self, context: Context) -> Manifest:
        """Score both and compare them."""
        from mxpipe.data import Snapshot
        from mxpipe.errors import SnapshotCorruptError
        from mxpipe.model import load_model
        from mxpipe_mlflow import registry

        holdout = Snapshot.open(self.holdout_uri)
        if holdout.digest != self.holdout_digest:
            raise SnapshotCorruptError(
                f"[holdout] {self.holdout_uri} must have digest {self.holdout_digest}; got {holdout.digest}."
            )
        models = {"candidate": load_model(Path(self.candidate["model_uri"]))}
        if self.champion["version"]:
            name, version = self.champion["model_name"], self.champion["version"]
            path = registry.download(name, version, tracking_uri=self.hook.settings.tracking_uri)
            models["champion"] = load_model(path)
        digests = {role: model.digest for role, model in models.items()}
        settings = [
            *(self.label_column, self.evaluation_task, self.metric, self.baseline_column),
            *(list(self.slices), list(self.groups), int(self.samples), int(self.seed)),
        ]
        name = digest_json([digests, holdout.digest, settings])[:16]
        place = self.hook.settings.root / "evaluations" / name
        report = place / "evaluation.json"
        if not report.exists():
            self._evaluate(models, holdout, place)
        whole = json.loads(report.read_text())
        champion = whole.get("champion")
        return {
            "candidate": whole["candidate"]["metrics"],
            "champion": champion["metrics"] if champion else None,
            "comparison": whole["comparison"],
            "champion_version": self.champion["version"],
            "digests": digests,
            "holdout_digest": holdout.digest,
            "rows": holdout.num_rows,
            "report_uri": str(report),
            "predictions_uri": str(place / "predictions.npz"),
        }

    def links(self, manifest: Manifest) -> Mapping[type[MxpipeLink], str | None]:
        """The whole evaluation."""
        return {ReportLink: report_url(manifest["report_uri"])}

    def lineage(self, manifest: Manifest) -> Lineage:
        """The rows, the models that were judged on them, and the evaluation."""
        read = [
            Data(self.holdout_uri, manifest["holdout_digest"]),
            Data(self.candidate["model_uri"], manifest["digests"]["candidate"]),
        ]
        if version := manifest["champion_version"]:
            read.append(Data(asset_uri("models", self.champion["model_name"]), version))
        return Lineage(read, [Data(manifest["report_uri"])])

    def _evaluate(self, models: Mapping[str, Model], holdout: Snapshot, place: Path) -> None:
        import numpy as np

        from mxpipe.model.storage import write_json
        from mxpipe.train.bootstrap import paired_bootstrap
        from mxpipe.train.tasks import DEFAULT_METRICS, evaluate_task

        named = [self.label_column, *self.slices, *self.groups]
        named += [self.baseline_column] if self.baseline_column else []
        table = holdout.to_table([*dict.fromkeys(named)])
        labels = np.asarray(table.column(self.label_column), dtype=np.float64)
        slices = {name: np.asarray(table.column(name).to_pylist(), dtype=str) for name in self.slices}
        scores = {role: predict(model, holdout) for role, model in models.items()}
        baseline = None
        if self.baseline_column:
            baseline = np.asarray(table.column(self.baseline_column), dtype=np.float64)
        whole: dict[str, Any] = {
            role: evaluate_task(self.evaluation_task, labels, given, slices, baseline=baseline).to_json()
            for role, given in scores.items()
        }
        arrays: dict[str, Any] = {"labels": labels, **scores}
        if self.groups:
            values = zip(*(table.column(name).to_pylist() for name in self.groups), strict=True)
            arrays["groups"] = np.unique([repr(value) for value in values], return_inverse=True)[1]
        whole["comparison"] = None
        if "champion" in scores:
            whole["comparison"] = paired_bootstrap(
                labels,
                scores["candidate"],
                scores["champion"],
                self.metric or DEFAULT_METRICS[self.evaluation_task],
                samples=int(self.samples),
                seed=int(self.seed),
                groups=arrays.get("groups"),
            ).to_json()
        place.mkdir(parents=True, exist_ok=True)
        with open(place / "predictions.npz", "wb") as file:
            np.savez_compressed(file, **arrays)
        write_json(place / "evaluation.json", whole)


class MxpipeGateOperator(MxpipeOperator):
    """Decide by a policy whether the candidate takes the champion's place: a pure function of the evaluation.

    A decision is not a failure: the task succeeds, and later stages read ``decision`` and skip themselves.

    Args:
        evaluation: What the evaluate stage returned. Templated.
        policy: See :func:`mxpipe.train.gate.decide`. Templated.

    Returns:
        ``decision`` (``PROMOTE``, ``HOLD`` or ``REJECT``), ``reasons`` in words, ``inputs`` digest.

    Example:
        >>> gate = MxpipeGateOperator(
        ...     task_id="gate", evaluation="{{ ti.xcom_pull('evaluate') }}", policy={"metric": "auc"}
        ... )
    """

    template_fields: Sequence[str] = ("conn_id", "evaluation", "policy")

    def __init__(
        self, *, evaluation: Mapping[str, Any], policy: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.policy = policy

    def run_stage(self, context: Context) -> Manifest:
        """Decide and say why."""
        from mxpipe.train.gate import decide

        given = self.evaluation
        digests = given["digests"]
        verdict = decide(
            given["candidate"],
            given["champion"],
            given["comparison"],
            self.policy,
            candidate_digest=digests["candidate"],
            champion_digest=digests.get("champion"),
        )
        self.log.info("%s: %s", verdict.decision, " ".join(verdict.reasons))
        return {
            **verdict.to_json(),
            "inputs": digest_json([digests, given["holdout_digest"], dict(self.policy or {})]),
        }
