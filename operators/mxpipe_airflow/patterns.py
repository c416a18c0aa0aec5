"""Runs of stages that most pipelines share, as functions that add them to the DAG around."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mxpipe_airflow.operators.evaluate import MxpipeEvaluateOperator, MxpipeGateOperator
from mxpipe_airflow.operators.registry import MxpipePromoteOperator, MxpipeRegisterOperator


class Challenge(NamedTuple):
    """The stages that :func:`challenge` added, for what comes before and after them.

    Attributes:
        evaluation: Task ``evaluate``.
        verdict: Task ``gate``.
        registered: Task ``register``.
        promoted: Task ``promote``.
    """

    evaluation: MxpipeEvaluateOperator
    verdict: MxpipeGateOperator
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
    **judged: Any,
) -> Challenge:
    """Judge a candidate against the champion, and register and promote it if the policy says so.

    Adds the tasks ``evaluate``, ``gate``, ``register`` and ``promote`` to the DAG (or task group) around it.

    Args:
        model_name: Name in the registry.
        candidate: What the train stage returned.
        champion: What the resolve stage returned.
        split: What the split stage returned.
        policy: See :class:`mxpipe.train.gate.GatePolicy`.
        experiment: MLflow experiment of the candidate's run; the model's name by default.
        judged: Further arguments of :class:`~mxpipe_airflow.operators.evaluate.MxpipeEvaluateOperator`:
            ``label_column, task, metric, slices, groups, ...``.

    Example:
        >>> from airflow.sdk import DAG
        >>> outputs = {"version": None, "holdout_uri": "", "holdout_digest": ""}
        >>> parts = dict.fromkeys(("candidate", "champion", "split"), outputs)
        >>> with DAG("example", schedule=None):
        ...     stages = challenge("late_flights", **parts, policy={}, label_column="late")
        >>> [task.task_id for task in stages]
        ['evaluate', 'gate', 'register', 'promote']
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
    return Challenge(evaluation, verdict, registered, promoted)
