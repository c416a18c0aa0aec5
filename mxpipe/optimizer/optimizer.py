"""Optimizer: what all update rules share.

A rule is written once, as a function of arrays: `formula(weight, gradient, states, scalars, wd)` returns the
new weight and states. The base applies it to whole arrays, or for a row-sparse gradient to the touched rows
alone. What changes from step to step (learning rate, bias corrections, gradient scale) enters as small
arrays, so that a compiled update serves every step; what is fixed (momentum, epsilon, weight decay) enters
as numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from mxpipe import np, npx
from mxpipe._native import Array, assign
from mxpipe.errors import SpecificationError
from mxpipe.lr_scheduler import LRScheduler
from mxpipe.sparse import RowSparseArray

__all__ = ["Optimizer", "create", "register"]

Scalars = dict[str, Array]
"""Numbers of one step as arrays of shape (): "learning_rate", "rescale_grad" and those of the rule."""

_registry: dict[str, type[Optimizer]] = {}


class Optimizer:
    """Base of all optimizers.

    Args:
        learning_rate: Its rate; 0.01 where neither it nor a scheduler is given. With a scheduler it replaces
            the scheduler's base rate.
        lr_scheduler: Rate as a function of the number of updates, the first having number 1.
        wd: Weight decay (L2 regularization), added to the gradient as wd * weight unless a rule says
            otherwise.
        rescale_grad: Multiplies the gradient; a `Trainer` divides it by the batch size.
        clip_gradient: Bound of each element of the rescaled gradient; none where None.
        begin_num_update: Number of updates done before.
        multi_precision: Keep a float32 copy of float16 and bfloat16 weights and update that.

    Whatever the type of a weight, the arithmetic is in float32 (float64 for float64 weights).
    """

    state_names: tuple[str, ...] = ()
    """Names of the arrays that the rule keeps for each weight."""

    scalar_names: tuple[str, ...] = ("learning_rate", "rescale_grad")
    """Names of the numbers that change from step to step."""

    constant_names: tuple[str, ...] = ("wd", "clip_gradient", "multi_precision")
    """Attributes that a compiled update holds as numbers."""

    def __init__(
        self,
        learning_rate: float | None = None,
        lr_scheduler: LRScheduler | None = None,
        wd: float = 0.0,
        rescale_grad: float = 1.0,
        clip_gradient: float | None = None,
        begin_num_update: int = 0,
        multi_precision: bool = False,
    ) -> None:
        if lr_scheduler is not None and learning_rate is not None:
            lr_scheduler.base_lr = learning_rate
        if clip_gradient is not None and clip_gradient <= 0:
            raise SpecificationError(f"[optimizer] clip_gradient must be positive; got {clip_gradient}.")
        self.lr_scheduler = lr_scheduler
        self.lr = 0.01 if learning_rate is None else learning_rate
        self.wd = wd
        self.rescale_grad = rescale_grad
        self.clip_gradient = clip_gradient
        self.begin_num_update = begin_num_update
        self.num_update = begin_num_update
        self.multi_precision = multi_precision
        self.lr_mult: dict[int, float] = {}
        self.wd_mult: dict[int, float] = {}
        self.update_counts: dict[int, int] = {}

    def __repr__(self) -> str:
        constants = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.constant_names)
        return f"{type(self).__name__}(learning_rate={self.learning_rate}, {constants})"

    # -------------------------------------------------------------------------------------- learning rate

    @property
    def learning_rate(self) -> float:
        """The present rate."""
        return self.lr if self.lr_scheduler is None else self.lr_scheduler(self.num_update)

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate.

        Raises:
            SpecificationError: A scheduler decides the rate.
        """
        if self.lr_scheduler is not None:
            raise SpecificationError(
                "[optimizer] set_learning_rate must not be used beside a scheduler; got both."
            )
        self.lr = lr

    def set_lr_mult(self, args_lr_mult: dict[int, float]) -> None:
        """Multiply the learning rate of single weights, by their index."""
        self.lr_mult = dict(args_lr_mult)

    def set_wd_mult(self, args_wd_mult: dict[int, float]) -> None:
        """Multiply the weight decay of single weights, by their index."""
        self.wd_mult = dict(args_wd_mult)

    # ---------------------------------------------------------------------------------------- for a rule

    def create_state(self, index: int, weight: Array) -> tuple[Array, ...]:
        """Arrays that the rule keeps for a weight: zeros of its shape, in the type of the arithmetic."""
        states = tuple(
            np.full(weight.shape, self.initial_state(name), dtype=compute_dtype(weight.dtype))
            for name in self.state_names
        )
        return (weight.astype("float32"), *states) if self._has_master(weight) else states

    def initial_state(self, name: str) -> float:
        """What the elements of a state begin with."""
        return 0.0

    def all_state_names(self, weight: Array) -> tuple[str, ...]:
        """Names of what `create_state` returns for this weight."""
        return ("master", *self.state_names) if self._has_master(weight) else self.state_names

    def scalars(self, count: int, learning_rate: float) -> dict[str, float]:
        """Numbers of the step that brings a weight to `count` updates, computed in double precision."""
        return {"learning_rate": learning_rate, "rescale_grad": self.rescale_grad}

    def formula(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        """The rule: new weight and states. Pure, and elementwise.

        Args:
            weight: Of any shape.
            gradient: Of its shape, rescaled and clipped already.
            states: Named by `state_names`.
            scalars: Numbers of this step.
            wd: Weight decay of this weight.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------ applying

    def count_updates(self, indices: Sequence[int]) -> list[int]:
        """Note one more update of these weights and return how many each has had."""
        for index in indices:
            self.update_counts[index] = self.update_counts.get(index, self.begin_num_update) + 1
            self.num_update = max(self.num_update, self.update_counts[index])
        return [self.update_counts[index] for index in indices]

    def update(
        self,
        indices: int | Sequence[int],
        weights: Any,
        grads: Any,
        states: Any,
    ) -> None:
        """Update weights and states in place, op by op. A `Trainer` does the same through compiled plans.

        Args:
            indices: A number for each weight, for its count and multipliers; or one number with one weight.
            weights: The weights.
            grads: Their gradients, arrays or `RowSparseArray`s.
            states: What `create_state` returned for each.
        """
        if isinstance(indices, int):
            indices, weights, grads, states = [indices], [weights], [grads], [states]
        counts = self.count_updates(indices)
        rate = self.learning_rate
        for index, count, weight, grad, state in zip(indices, counts, weights, grads, states, strict=True):
            numbers = self.scalars(count, rate * self.lr_mult.get(index, 1.0))
            dtype = compute_dtype(weight.dtype)
            scalars = {name: np.array(number, dtype=dtype) for name, number in numbers.items()}
            self.apply(weight, grad, state, scalars, self.wd * self.wd_mult.get(index, 1.0))

    def apply(
        self,
        weight: Array,
        gradient: Array | RowSparseArray,
        states: tuple[Array, ...],
        scalars: Scalars,
        wd: float,
    ) -> None:
        """Write the formula's results into weight and states; also while tracing.

        A row-sparse gradient updates the rows that it has and leaves the others, their momentum included, as
        they are (a lazy update): the cost does not grow with the table.
        """
        master, rule_states = (states[0], states[1:]) if self._has_master(weight) else (weight, states)
        if isinstance(gradient, RowSparseArray):
            ids = gradient.indices
            row_states = tuple(npx.take_rows(state, ids) for state in rule_states)
            rows, row_states = self._step(npx.take_rows(master, ids), gradient.data, row_states, scalars, wd)
            new_master = npx.scatter_rows(master, ids, rows)
            new_states = tuple(
                npx.scatter_rows(state, ids, row) for state, row in zip(rule_states, row_states, strict=True)
            )
        else:
            new_master, new_states = self._step(master, gradient, rule_states, scalars, wd)
        for state, new in zip(rule_states, new_states, strict=True):
            assign(state, new)
        assign(master, new_master)
        if master is not weight:
            assign(weight, new_master.astype(weight.dtype))

    def _step(
        self, weight: Array, gradient: Array, states: tuple[Array, ...], scalars: Scalars, wd: float
    ) -> tuple[Array, tuple[Array, ...]]:
        dtype = compute_dtype(weight.dtype)
        gradient = _as_type(gradient, dtype) * scalars["rescale_grad"]
        if self.clip_gradient is not None:
            gradient = np.clip(gradient, -self.clip_gradient, self.clip_gradient)
        new, states = self.formula(_as_type(weight, dtype), gradient, states, scalars, wd)
        return _as_type(new, weight.dtype), states

    def _has_master(self, weight: Array) -> bool:
        return self.multi_precision and str(weight.dtype) in ("float16", "bfloat16")


@functools.cache
def compute_dtype(dtype: Any) -> str:
    """Type of the arithmetic for weights of a type."""
    return "float64" if str(dtype) == "float64" else "float32"


def _as_type(array: Array, dtype: Any) -> Array:
    return array if array.dtype == dtype else array.astype(dtype)


def register(kind: type[Optimizer]) -> type[Optimizer]:
    """Class decorator: make an optimizer known to `create` by its name in lower case."""
    _registry[kind.__name__.lower()] = kind
    return kind


def create(name: str | Optimizer, **arguments: Any) -> Optimizer:
    """An optimizer from its name; an optimizer is returned as it is.

    Raises:
        SpecificationError: No optimizer has this name.

    Example:
        >>> create("sgd", learning_rate=0.5, momentum=0.9).learning_rate
        0.5
    """
    if isinstance(name, Optimizer):
        return name
    if name.lower() not in _registry:
        raise SpecificationError(f"[optimizer] must be one of {', '.join(sorted(_registry))}; got {name!r}.")
    return _registry[name.lower()](**arguments)
