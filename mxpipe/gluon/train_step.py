"""TrainStep: forward, loss, backward and update as one compiled plan."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

from mxpipe import _native, amp, autograd
from mxpipe._native import Array
from mxpipe.errors import BlockError

from .hybrid import HybridBlock
from .plans import Plan, PlanCache
from .trainer import Trainer
from .tree import flatten, unflatten
from .updates import RawGradient

if TYPE_CHECKING:
    from mxpipe.inspection import PlanView

__all__ = ["TrainStep"]


class _Inspected(Exception):  # noqa: N818 - no error
    """Carries a plan out of a step that is not run."""


def _run(plan: Plan, arguments: list[Array]) -> Array:
    loss: Array = plan.compiled(*arguments)[0]
    return loss


class TrainStep:
    """One step of training, planned as a whole: the same numbers as record, backward and `Trainer.step`.

    A plan is made for each signature of the inputs. The learning rate and everything else that changes from
    step to step enter as inputs, so a schedule never makes a new plan. If a step raises (an id out of range),
    nothing has been counted.

    Args:
        net: The network, run in training mode.
        loss: Called with the network's output and the label; anything made of ops.
        trainer: Owns the parameters and the optimizer; its states are shared, steps of both kinds can be
            mixed.
        precision: "bfloat16" does matrix work in bfloat16 and keeps the activations between in it;
            parameters, their updates, statistics and losses stay float32. By default what `amp.init` chose:
            float32.
        remat: Let backward make again what is cheap to make, as in `HybridBlock.hybridize`.

    Example:
        >>> import mxpipe as mx
        >>> net = mx.gluon.nn.Dense(1)
        >>> net.initialize()
        >>> trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.1})
        >>> step = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)
        >>> x, y = mx.np.ones((8, 3)), mx.np.ones((8,))
        >>> losses = [step(x, y).mean().item() for _ in range(20)]
        >>> losses[-1] < losses[0]
        True
    """

    def __init__(
        self,
        net: HybridBlock,
        loss: Callable[..., Array],
        trainer: Trainer,
        precision: Any = None,
        remat: bool = False,
    ) -> None:
        self._net = net
        self._loss = loss
        self._trainer = trainer
        self._updates = trainer._updates
        self._plans = PlanCache()
        self._precision = amp.precision(precision)
        self._remat = remat

    def __call__(self, *batch: Any, batch_size: float | None = None) -> Array:
        """Train on a batch.

        Args:
            batch: The network's inputs, then the label.
            batch_size: What the gradient is divided by; the length of the label's first axis where None.

        Returns:
            The loss of each sample, (batch,).
        """
        return self._planned(batch, batch_size, _run)

    def inspect(self, *batch: Any, batch_size: float | None = None) -> PlanView:
        """The plan of the step for such a batch: kernels, bytes, operations, predicted peak memory.

        It is made, but not run: nothing is trained. For times, train within `mx.inspection.profile()`.

        Args:
            batch: The network's inputs, then the label; their values do not matter.
            batch_size: As when the step is called.

        Example:
            >>> import mxpipe as mx
            >>> net = mx.gluon.nn.Dense(1, in_units=3)
            >>> net.initialize()
            >>> trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
            >>> step = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)
            >>> plan = step.inspect(mx.np.ones((8, 3)), mx.np.ones((8,)))
            >>> plan.peak_bytes > 8 * 3 * 4
            True
        """
        from mxpipe.inspection import view

        def look(plan: Plan, _arguments: list[Array]) -> Array:
            raise _Inspected(view(plan.compiled))  # before the step is counted

        try:
            self._planned(batch, batch_size, look)
        except _Inspected as found:
            shown: PlanView = found.args[0]
            return shown
        raise AssertionError("unreachable")

    def _planned(
        self, batch: Sequence[Any], batch_size: float | None, execute: Callable[[Plan, list[Array]], Array]
    ) -> Array:
        if len(batch) < 2:
            raise BlockError(
                f"[TrainStep] a batch must be the network's inputs and a label; got {len(batch)} parts."
            )
        arrays, structure = flatten(batch, "TrainStep")
        updates, optimizer = self._updates, self._trainer.optimizer
        if any(parameter.is_deferred for parameter in updates.parameters):
            self._net.finish_deferred(*batch[:-1])
        indices = updates.trained()
        samples = arrays[-1].shape[0] if batch_size is None else batch_size
        optimizer.rescale_grad = self._trainer._scale / samples

        def run(scalars: list[Array], groups: tuple[int, ...]) -> Array:
            arguments = [*arrays, *scalars]
            kinds = tuple([(array.shape, array.dtype) for array in arguments])
            key = (structure, updates.key(indices, groups), kinds)
            plan = self._plans.get(
                key, lambda: self._compile(structure, len(arrays), indices, groups, arguments)
            )
            return execute(plan, arguments)

        with autograd.pause(train_mode=True):
            return updates.step(indices, run)

    def _compile(
        self,
        structure: Hashable,
        count: int,
        indices: list[int],
        groups: tuple[int, ...],
        arguments: list[Array],
    ) -> Plan:
        updates = self._updates
        for index in indices:
            if updates.parameters[index].grad_req == "add":
                raise BlockError(f"[TrainStep] grad_req must be write; {updates.names[index]} has add.")
            updates.state(index)  # made before tracing, so that the plan captures arrays
        weights = [updates.parameters[index].data() for index in indices]

        def run(*stand_ins: Array) -> tuple[Array, ...]:
            *inputs, label = unflatten(structure, stand_ins[:count])
            loss = self._loss(self._net(*inputs), label)
            gradients: list[RawGradient] = list(autograd.grad(loss, weights))
            updates.apply(indices, gradients, stand_ins[count:], groups)
            return (loss,)

        traced = _native.trace(run, arguments, True)
        unique = {id(parameter): parameter for parameter in self._net.collect_params().values()}
        others = tuple([(parameter, parameter.data()) for parameter in unique.values()])
        return Plan(
            traced.compile(self._precision, recompute=self._remat),
            None,
            (*others, *updates.captured(indices)),
        )
