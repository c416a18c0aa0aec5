"""Executor: a symbol bound to arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _native, autograd
from ._native import Array
from .errors import GraphError

if TYPE_CHECKING:
    from .symbol import Symbol

__all__ = ["Executor"]


class Executor:
    """A compiled expression with its arrays.

    Attributes:
        arg_dict: Values of variables by name; write into them, or pass new ones to `forward`.
        grad_dict: Gradients by name, after `backward`.
        outputs: Results of the last `forward`.
    """

    def __init__(
        self,
        symbol: Symbol,
        args: Mapping[str, Array] | Sequence[Array],
        args_grad: Mapping[str, Array] | None,
        grad_req: str | Mapping[str, str],
    ) -> None:
        names = symbol.list_arguments()
        named = dict(args) if isinstance(args, Mapping) else dict(zip(names, args, strict=False))
        if set(named) != set(names):
            raise GraphError(f"[bind] args must be a value for each of {names}; got {sorted(named)}.")
        self.arg_dict = {name: named[name].detach() for name in names}
        self.outputs: list[Array] = []
        self._symbol = symbol
        self._given_gradients = dict(args_grad or {})
        self._compiled: dict[bool, Any] = {}
        for name in names:
            request = "write" if name in self._given_gradients else "null"
            request = grad_req.get(name, request) if isinstance(grad_req, Mapping) else request
            request = grad_req if isinstance(grad_req, str) and grad_req != "null" else request
            if request != "null":
                self.arg_dict[name].attach_grad(request)

    @property
    def grad_dict(self) -> dict[str, Array]:
        """Gradients by name; None for a variable without."""
        return {name: array.grad for name, array in self.arg_dict.items()}

    def forward(self, is_train: bool = False, **values: Array) -> list[Array]:
        """Run, in training mode or not; `values` replace those of variables for good."""
        for name, value in values.items():
            if name not in self.arg_dict:
                raise GraphError(f"[forward] values must be of variables {list(self.arg_dict)}; got {name}.")
            _native.assign(self.arg_dict[name], value)
        arrays = list(self.arg_dict.values())
        if is_train not in self._compiled:
            names = list(self.arg_dict)
            with autograd.pause(train_mode=is_train):
                traced = _native.trace(
                    lambda *inputs: self._symbol._evaluate_flat(dict(zip(names, inputs, strict=True))),
                    arrays,
                    is_train,
                )
            self._compiled[is_train] = traced.compile()
        scope = autograd.record(train_mode=True) if is_train else autograd.pause()
        with scope:
            self.outputs = list(self._compiled[is_train](*arrays))
        return self.outputs

    def backward(self, out_grads: Array | Sequence[Array] | None = None) -> None:
        """Gradients of the outputs' sum, or with given gradients of the outputs, after `forward(True)`."""
        autograd.backward(self.outputs, out_grads)
        for name, target in self._given_gradients.items():
            _native.assign(target, self.arg_dict[name].grad)
