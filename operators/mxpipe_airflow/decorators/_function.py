"""What the decorators share: calling the function with the task's arguments and context."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import DecoratedOperator, determine_kwargs

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator


class FromFunction(DecoratedOperator):
    """Mixed into an operator: its arguments come from a function that is called when the task runs."""

    def call(self, context: Context) -> Any:
        """What the function returns. It may ask for entries of the context by name, as in ``@task``."""
        given = {**context, **self.op_kwargs}
        named = determine_kwargs(self.python_callable, self.op_args, given)
        return self.python_callable(*self.op_args, **named)


def decorator_of(
    operator: type[Any], function: Callable[..., Any] | None, arguments: dict[str, Any]
) -> TaskDecorator:
    """The decorator of an operator, bare or called with arguments."""
    from airflow.sdk.bases.decorator import task_decorator_factory

    # A manifest's entries are XComs of their own, as with the operator itself.
    return task_decorator_factory(
        python_callable=function,
        decorated_operator_class=operator,
        **{"multiple_outputs": True, **arguments},
    )
