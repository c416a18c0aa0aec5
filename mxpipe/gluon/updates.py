"""How an optimizer meets parameters: states, counts, and the numbers of one step.

`Trainer` and `TrainStep` share it, which is why they give the same numbers: both trace the same `apply`, the
first with gradients as inputs, the second with gradients that the same plan computes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy

from mxpipe import _native
from mxpipe._native import Array
from mxpipe.optimizer import Optimizer
from mxpipe.optimizer.optimizer import compute_dtype
from mxpipe.sparse import RowSparseArray

from .parameter import Parameter

__all__ = ["RawGradient", "Updates"]

RawGradient = Array | tuple[Array, Array]
"""A gradient as backward makes it: dense, or the pair (ids, rows) of a `RowSparseArray`."""

_Result = TypeVar("_Result")


class _Numbers:
    """The numbers of one step as arrays of shape () that are written anew for each step, not made anew."""

    def __init__(self, count: int, dtype: str) -> None:
        self.dtype = dtype
        self._memory = [numpy.zeros((), dtype=dtype) for _ in range(count)]
        self.arrays = [_native.array(memory, copy=False) for memory in self._memory]

    def write(self, values: Iterable[float]) -> None:
        for memory, value in zip(self._memory, values, strict=True):
            memory[()] = value


class Updates:
    """Parameters with the optimizer that updates them.

    Args:
        parameters: Names to parameters; the position is the optimizer's index.
        optimizer: The rule.
    """

    def __init__(self, parameters: dict[str, Parameter], optimizer: Optimizer) -> None:
        self.names = list(parameters)
        self.parameters = list(parameters.values())
        self.optimizer = optimizer
        self.states: dict[int, tuple[Array, ...]] = {}
        self._numbers: list[_Numbers] = []

    def trained(self) -> list[int]:
        """Indices of the parameters that are learned."""
        return [index for index, parameter in enumerate(self.parameters) if parameter.grad_req != "null"]

    def state(self, index: int) -> tuple[Array, ...]:
        """States of a parameter, made when first asked for."""
        if index not in self.states:
            self.states[index] = self.optimizer.create_state(index, self.parameters[index].data())
        return self.states[index]

    def step(self, indices: Sequence[int], run: Callable[[list[Array], tuple[int, ...]], _Result]) -> _Result:
        """Count one update of these parameters around `run(scalars, groups)`; none if it raises.

        Parameters with the same count, multiplier and type share their numbers. `groups[i]` says which
        numbers belong to `indices[i]`; in a plain training loop all are in group 0.
        """
        optimizer = self.optimizer
        before = dict(optimizer.update_counts), optimizer.num_update
        try:
            scalars, groups = self._scalars(indices, optimizer.count_updates(indices))
            return run(scalars, groups)
        except BaseException:
            optimizer.update_counts, optimizer.num_update = before
            raise

    def _scalars(self, indices: Sequence[int], counts: list[int]) -> tuple[list[Array], tuple[int, ...]]:
        rate = self.optimizer.learning_rate
        group_of: dict[tuple[int, float, str], int] = {}
        groups = []
        for index, count in zip(indices, counts, strict=True):
            parameter = self.parameters[index]
            multiplier = parameter.lr_mult * self.optimizer.lr_mult.get(index, 1.0)
            group = (count, multiplier, compute_dtype(parameter.data().dtype))
            if group not in group_of:
                group_of[group] = len(group_of)
            groups.append(group_of[group])
        scalars: list[Array] = []
        for (count, multiplier, dtype), number in group_of.items():
            values = self.optimizer.scalars(count, rate * multiplier)
            scalars += self._write(number, dtype, [values[name] for name in self.optimizer.scalar_names])
        return scalars, tuple(groups)

    def _write(self, number: int, dtype: str, values: list[float]) -> list[Array]:
        if number == len(self._numbers):
            self._numbers.append(_Numbers(len(values), dtype))
        elif self._numbers[number].dtype != dtype:
            self._numbers[number] = _Numbers(len(values), dtype)
        self._numbers[number].write(values)
        return self._numbers[number].arrays

    def key(self, indices: Sequence[int], groups: tuple[int, ...]) -> Hashable:
        """What a compiled update depends on, besides the shapes and types of its inputs."""
        optimizer = self.optimizer
        constants = tuple([getattr(optimizer, name) for name in optimizer.constant_names])
        return constants, tuple(indices), groups, tuple([self._decay(index) for index in indices])

    def apply(
        self,
        indices: Sequence[int],
        gradients: Sequence[RawGradient],
        scalars: Sequence[Array],
        groups: tuple[int, ...],
    ) -> None:
        """Write the new weights and states; run while tracing."""
        names = self.optimizer.scalar_names
        for index, gradient, group in zip(indices, gradients, groups, strict=True):
            parameter = self.parameters[index]
            weight = parameter.data()
            whole = RowSparseArray(*gradient, weight.shape) if isinstance(gradient, tuple) else gradient
            values = dict(zip(names, scalars[group * len(names) : (group + 1) * len(names)], strict=True))
            self.optimizer.apply(weight, whole, self.state(index), values, self._decay(index))

    def captured(self, indices: Sequence[int]) -> tuple[tuple[Parameter, Array], ...]:
        """The arrays that a plan for these parameters is tied to."""
        return tuple([(self.parameters[index], self.parameters[index].data()) for index in indices])

    def _decay(self, index: int) -> float:
        optimizer = self.optimizer
        return optimizer.wd * self.parameters[index].wd_mult * optimizer.wd_mult.get(index, 1.0)
