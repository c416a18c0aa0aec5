"""Runs of stages that most pipelines share, as functions that add them to the DAG around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mxpipe_airflow.operators.evaluate import MxpipeEvaluateOperator, MxpipeGateOperator
from mxpipe_airflow.operators.infra import MxpipeInfraValidateOperator
from mxpipe_airflow.operators.registry import MxpipePromoteOperator, MxpipeRegisterOperator


class Challenge(NamedTuple):
    """The stages that :func:`challenge` added, for what comes before and after them.

    Attributes:
        evaluation: Task ``evaluate``.
        verdict: Task ``gate``.
        tried: Task ``infra_validate``.
        registered: Task ``register``.
        promoted: Task ``promote``.
    """

    evaluation: MxpipeEvaluateOperator
    verdict: MxpipeGateOperator
    tried: MxpipeInfraValidateOperator
    registered: MxpipeRegisterOperator
    promoted: MxpipePromoteOperator


def challenge(
    model_name: str,
    *,
    candidate: Any,
    champion: Any,
    split: Any,
    policy: Mapping[str, Any],
    experiment: str | None = None,
    bounds: Mapping[str, Any] | None = None,
    **judged: Any,
) -> Challenge:
    """Judge a candidate against the champion, try it as it will be served, then register and promote it.

    Adds the tasks ``evaluate``, ``gate``, ``infra_validate``, ``register`` and ``promote`` to the DAG (or
    task group) around it. What the policy rejects, or what does not serve, is not registered.

    Args:
        model_name: Name in the registry.
        candidate: What the train stage returned.
        champion: What the resolve stage returned.
        split: What the split stage returned.
        policy: See :class:`mxpipe.train.gate.GatePolicy`.
        experiment: MLflow experiment of the candidate's run; the model's name by default.
        bounds: Of serving: ``latency_milliseconds, memory_megabytes, ...`` of
            :class:`~mxpipe_airflow.operators.infra.MxpipeInfraValidateOperator`.
        judged: Further arguments of :class:`~mxpipe_airflow.operators.evaluate.MxpipeEvaluateOperator`:
            ``label_column, task, metric, slices, groups, ...``.

    Example:
        >>> from airflow.sdk import DAG
        >>> outputs = {"version": None, "holdout_uri": "", "holdout_digest": ""}
        >>> parts = dict.fromkeys(("candidate", "champion", "split"), outputs)
        >>> with DAG("example", schedule=None):
        ...     stages = challenge("late_flights", **parts, policy={}, label_column="late")
        >>> [task.task_id for task in stages]
        ['evaluate', 'gate', 'infra_validate', 'register', 'promote']
    """
    evaluation = MxpipeEvaluateOperator(
        task_id="evaluate",
        candidate=candidate,
        champion=champion,
        holdout_uri=split["holdout_uri"],
        holdout_digest=split["holdout_digest"],
        **judged,
    )
    verdict = MxpipeGateOperator(task_id="gate", evaluation=evaluation.output, policy=policy)
    tried = MxpipeInfraValidateOperator(
        task_id="infra_validate",
        candidate=candidate,
        evaluation=evaluation.output,
        holdout_uri=split["holdout_uri"],
        verdict=verdict.output,
        **(bounds or {}),
    )
    registered = MxpipeRegisterOperator(
        task_id="register",
        model_name=model_name,
        candidate=candidate,
        split=split,
        champion=champion,
        verdict=verdict.output,
        experiment=experiment or model_name,
    )
    promoted = MxpipePromoteOperator(
        task_id="promote",
        model_name=model_name,
        registered=registered.output,
        champion=champion,
        verdict=verdict.output,
    )
    tried >> registered
    return Challenge(evaluation, verdict, tried, registered, promoted)
