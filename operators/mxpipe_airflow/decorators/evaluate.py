"""``@task.mxpipe_evaluate``: a function says which models are judged on which rows, the operator judges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator

from mxpipe.errors import SpecificationError
from mxpipe_airflow.decorators._function import FromFunction, decorator_of
from mxpipe_airflow.operators.base import Manifest
from mxpipe_airflow.operators.evaluate import MxpipeEvaluateOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

_FROM_FUNCTION = ("candidate", "champion", "holdout_uri", "holdout_digest")


class _EvaluateDecoratedOperator(FromFunction, MxpipeEvaluateOperator):
    custom_operator_name = "@task.mxpipe_evaluate"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in MxpipeEvaluateOperator.template_fields if name not in _FROM_FUNCTION),
    )

    def __init__(self, **kwargs: Any) -> None:
        nothing: dict[str, Any] = {"candidate": {}, "champion": {}, "holdout_uri": "", "holdout_digest": ""}
        super().__init__(**{**nothing, **kwargs})

    def run_stage(self, context: Context) -> Manifest:
        given = self.call(context)
        if not isinstance(given, Mapping) or set(given) != set(_FROM_FUNCTION):
            got = sorted(given) if isinstance(given, Mapping) else type(given).__name__
            raise SpecificationError(
                f"[{self.task_id}] the function must return {', '.join(_FROM_FUNCTION)}; got {got}."
            )
        for name, value in given.items():
            setattr(self, name, value)
        return super().run_stage(context)


def mxpipe_evaluate_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make an evaluation of a function that returns ``candidate, champion, holdout_uri, holdout_digest``.

    Args:
        python_callable: The function; its arguments may be results of earlier tasks.
        kwargs: The other arguments of
            :class:`~mxpipe_airflow.operators.evaluate.MxpipeEvaluateOperator`.

    Example:
        >>> from airflow.sdk import DAG, task
        >>> with DAG("flights", schedule=None):
        ...     @task.mxpipe_evaluate(label_column="late", slices=["carrier"])
        ...     def evaluate(candidate, champion, split):
        ...         holdout = {name: split[name] for name in ("holdout_uri", "holdout_digest")}
        ...         return {"candidate": candidate, "champion": champion, **holdout}
        ...     judged = evaluate({}, {}, {})
        >>> judged.operator.label_column
        'late'
    """
    return decorator_of(_EvaluateDecoratedOperator, python_callable, kwargs)
