"""Trainer: applies an optimizer to the parameters of a network after each backward."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mxpipe import _native, autograd, np
from mxpipe._native import Array, assign
from mxpipe.errors import BlockError, ModelFormatError
from mxpipe.optimizer import Optimizer, create

from .files import read_arrays, write_arrays
from .parameter import Parameter
from .plans import Plan, PlanCache
from .updates import RawGradient, Updates

__all__ = ["Trainer"]


class Trainer:
    """Updates parameters from the gradients that backward left in them.

    All updates of a step run as one compiled plan.

    Args:
        params: What `collect_params` returns, or a list of parameters. A shared parameter is updated once.
        optimizer: An optimizer, or its name.
        optimizer_params: Arguments for an optimizer given by name.
        kvstore: Accepted for programs of one process ("local", "device", None).

    Example:
        >>> import mxpipe as mx
        >>> net = mx.gluon.nn.Dense(1, in_units=1, weight_initializer="zeros")
        >>> net.initialize()
        >>> trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
        >>> with mx.autograd.record():
        ...     loss = mx.gluon.loss.L2Loss()(net(mx.np.ones((2, 1))), mx.np.ones((2,)))
        >>> loss.backward()
        >>> trainer.step(batch_size=2)
        >>> net.weight.data().item()
        0.5
    """

    def __init__(
        self,
        params: Mapping[str, Parameter] | Sequence[Parameter],
        optimizer: str | Optimizer,
        optimizer_params: Mapping[str, Any] | None = None,
        kvstore: str | None = "device",
    ) -> None:
        if isinstance(optimizer, Optimizer) and optimizer_params:
            raise BlockError(
                "[Trainer] optimizer_params must come with an optimizer's name; got an optimizer."
            )
        if kvstore not in ("device", "local", None):
            raise BlockError(
                f"[Trainer] kvstore must be device, local or None: one process; got {kvstore!r}."
            )
        self._updates = Updates(_unique(params), create(optimizer, **(optimizer_params or {})))
        self._scale = self.optimizer.rescale_grad
        self._plans = PlanCache()

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer."""
        return self._updates.optimizer

    @property
    def learning_rate(self) -> float:
        """The present learning rate."""
        return self.optimizer.learning_rate

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate; only without a scheduler."""
        self.optimizer.set_learning_rate(lr)

    def step(self, batch_size: float, ignore_stale_grad: bool = False) -> None:
        """Update all parameters from their gradients, divided by the batch size.

        Call after `backward`, outside of `record()`.

        Args:
            batch_size: Number of samples whose losses were summed; 1 where the loss is a mean already.
            ignore_stale_grad: Leave parameters alone whose gradient backward did not write since the last
                step, instead of raising.

        Raises:
            BlockError: A gradient is stale: part of the network was not used, or backward was not called.
        """
        self.allreduce_grads()
        self.update(batch_size, ignore_stale_grad)

    def allreduce_grads(self) -> None:
        """Sum gradients over processes. A single process has them complete: nothing to do."""

    def update(self, batch_size: float, ignore_stale_grad: bool = False) -> None:
        """The second half of `step`, for programs that change gradients between the two."""
        updates = self._updates
        indices = self._fresh(ignore_stale_grad)
        if not indices:
            return
        gradients = [updates.parameters[index].raw_grad() for index in indices]
        self.optimizer.rescale_grad = self._scale / batch_size
        flat = [
            array
            for gradient in gradients
            for array in (gradient if isinstance(gradient, tuple) else (gradient,))
        ]

        def run(scalars: list[Array], groups: tuple[int, ...]) -> None:
            arguments = [*flat, *scalars]
            sparse = tuple([isinstance(gradient, tuple) for gradient in gradients])
            kinds = tuple([(array.shape, array.dtype) for array in arguments])
            key = (updates.key(indices, groups), sparse, kinds)
            plan = self._plans.get(key, lambda: self._compile(indices, gradients, groups, arguments))
            plan.compiled(*arguments)

        with autograd.pause():
            updates.step(indices, run)
        for index in indices:
            updates.parameters[index].data().fresh_grad = False

    def _fresh(self, ignore_stale_grad: bool) -> list[int]:
        """Learned parameters whose gradients backward has written since the last step."""
        updates = self._updates
        stale = [index for index in updates.trained() if not updates.parameters[index].data().fresh_grad]
        if stale and not ignore_stale_grad:
            names = ", ".join(updates.names[index] for index in stale[:5])
            raise BlockError(
                f"[Trainer] backward must write every gradient before a step; those of {names} are stale. "
                "If only a part of the network is trained, set ignore_stale_grad=True."
            )
        return [index for index in updates.trained() if index not in stale]

    def _compile(
        self,
        indices: list[int],
        gradients: list[RawGradient],
        groups: tuple[int, ...],
        arguments: list[Array],
    ) -> Plan:
        updates = self._updates
        for index in indices:
            updates.state(index)  # made before tracing, so that the plan captures arrays

        def run(*stand_ins: Array) -> tuple[Array, ...]:
            remaining = iter(stand_ins)
            traced: list[RawGradient] = [
                (next(remaining), next(remaining)) if isinstance(gradient, tuple) else next(remaining)
                for gradient in gradients
            ]
            updates.apply(indices, traced, list(remaining), groups)
            return ()

        return Plan(_native.trace(run, arguments).compile(), None, updates.captured(indices))

    # ---------------------------------------------------------------------------------------------- states

    def get_states(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Everything but the weights that a resumed run needs to go on exactly.

        Returns:
            Arrays by name ("0.weight/mean"), and a dictionary that can be written as JSON.
        """
        updates = self._updates
        arrays = {}
        for index in updates.trained():
            names = self.optimizer.all_state_names(updates.parameters[index].data())
            for name, array in zip(names, updates.state(index), strict=True):
                arrays[f"{updates.names[index]}/{name}"] = array
        counts = {updates.names[index]: count for index, count in self.optimizer.update_counts.items()}
        return arrays, {
            "optimizer": type(self.optimizer).__name__,
            "learning_rate": self.optimizer.lr,
            "num_update": self.optimizer.num_update,
            "update_counts": counts,
        }

    def set_states(self, arrays: Mapping[str, Any], description: Mapping[str, Any]) -> None:
        """Go on from what `get_states` returned.

        Args:
            arrays: Arrays by name, or what NumPy takes for them.
            description: The dictionary.

        Raises:
            ModelFormatError: They do not belong to this optimizer and these parameters; nothing was changed.
        """
        updates, optimizer = self._updates, self.optimizer
        kind = type(optimizer).__name__
        if description.get("optimizer") != kind:
            raise ModelFormatError(
                f"[Trainer] states must be of {kind}; got {description.get('optimizer')!r}."
            )
        targets: dict[str, Array] = {}
        for index in updates.trained():
            names = optimizer.all_state_names(updates.parameters[index].data())
            for name, array in zip(names, updates.state(index), strict=True):
                targets[f"{updates.names[index]}/{name}"] = array
        if set(arrays) != set(targets):
            wrong = sorted(set(arrays) ^ set(targets))
            raise ModelFormatError(
                f"[Trainer] states must be there for every parameter; they differ in {wrong[:5]}."
            )
        values = {
            name: value if isinstance(value, Array) else np.array(value) for name, value in arrays.items()
        }
        for name, value in values.items():
            if value.shape != targets[name].shape:
                raise ModelFormatError(
                    f"[Trainer] {name} must have shape {targets[name].shape}; got {value.shape}."
                )
        position = {name: index for index, name in enumerate(updates.names)}
        counts = {position[name]: int(count) for name, count in description["update_counts"].items()}
        for name, value in values.items():
            assign(
                targets[name],
                value if value.dtype == targets[name].dtype else value.astype(targets[name].dtype),
            )
        optimizer.update_counts = counts
        optimizer.num_update = int(description["num_update"])
        optimizer.lr = float(description["learning_rate"])

    def save_states(self, fname: str | os.PathLike[str]) -> None:
        """Write the optimizer's states and counts to a safetensors file.

        Raises:
            StorageError: The file cannot be written.
        """
        arrays, description = self.get_states()
        write_arrays(fname, arrays, {"trainer": json.dumps(description, sort_keys=True)})

    def load_states(self, fname: str | os.PathLike[str]) -> None:
        """Read what `save_states` wrote.

        Raises:
            ModelFormatError: The file is damaged, or belongs to another optimizer or network.
        """
        arrays, metadata = read_arrays(fname)
        try:
            description = json.loads(metadata["trainer"])
        except (KeyError, ValueError) as error:
            raise ModelFormatError(
                f"[{fname}] metadata must have a JSON field trainer; got {error}."
            ) from error
        self.set_states(arrays, description)


def _unique(params: Mapping[str, Parameter] | Sequence[Parameter]) -> dict[str, Parameter]:
    """Parameters by name, each once; those of a list are named by their position."""
    items = (
        params.items() if isinstance(params, Mapping) else [(str(i), item) for i, item in enumerate(params)]
    )
    named: dict[str, Parameter] = {}
    seen: set[int] = set()
    for name, parameter in items:
        if not isinstance(parameter, Parameter):
            raise BlockError(
                f"[Trainer] params must be Parameters; got {type(parameter).__name__} for {name}."
            )
        if id(parameter) not in seen:
            seen.add(id(parameter))
            named[name] = parameter
    return named
