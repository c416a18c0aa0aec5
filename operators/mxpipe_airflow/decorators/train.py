"""``@task.mxpipe_train``: a function returns the specification of a training, the operator trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator

from mxpipe.errors import SpecificationError
from mxpipe_airflow.decorators._function import FromFunction, decorator_of
from mxpipe_airflow.operators.base import Manifest
from mxpipe_airflow.operators.train import MxpipeTrainOperator

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class _TrainDecoratedOperator(FromFunction, MxpipeTrainOperator):
    custom_operator_name = "@task.mxpipe_train"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in MxpipeTrainOperator.template_fields if name != "spec"),
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"spec": {}, **kwargs})

    def run_stage(self, context: Context) -> Manifest:
        from mxpipe.train import TrainSpec

        given = self.call(context)
        if not isinstance(given, dict | TrainSpec):
            raise SpecificationError(
                f"[{self.task_id}] the function must return a training's specification; got"
                f" {type(given).__name__}."
            )
        self.spec = given.to_json() if isinstance(given, TrainSpec) else given
        return super().run_stage(context)


def mxpipe_train_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Make a training of a function that returns its :class:`~mxpipe.train.TrainSpec`, or that as JSON.

    Args:
        python_callable: The function; its arguments may be results of earlier tasks.
        kwargs: Arguments of :class:`~mxpipe_airflow.operators.train.MxpipeTrainOperator` but ``spec``.

    Example:
        >>> from airflow.sdk import DAG, task
        >>> with DAG("flights", schedule=None):
        ...     @task.mxpipe_train(partition="{{ run_id }}", deferrable=True)
        ...     def train(split):
        ...         features = {"numeric": ["distance"], "label": "late"}
        ...         data = {"train": split["train_uri"], "features": features}
        ...         return {"model": {"builder": "logistic_regression"}, "data": data, "epochs": 5}
        ...     trained = train({"train_uri": "/data/rows"})
        >>> trained.operator.task_id, trained.operator.deferrable
        ('train', True)
    """
    return decorator_of(_TrainDecoratedOperator, python_callable, kwargs)
