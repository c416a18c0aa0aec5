"""What the peer modules share: steps and calls over staged data, for any network and dtype.

A module `peer_<area>.py` offers `train`, `infer` and `micro`, each of (workload, dtype), for the models that
`peer.py` lists under its name. Most build their network from `workload.params()` and hand it to
`compiled_train` and `compiled_infer`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx
from benchmarks.workloads import Unsupported

LOSSES = {
    "bce": mx.gluon.loss.SigmoidBinaryCrossEntropyLoss,
    "ce": mx.gluon.loss.SoftmaxCrossEntropyLoss,
    "mse": functools.partial(mx.gluon.loss.L2Loss, weight=2.0),  # ours halves the squares
}


def precision(dtype: str) -> dict[str, str]:
    """The argument of `TrainStep` and `hybridize` for a workload's dtype."""
    if dtype == "fp32":
        return {}
    if dtype == "bf16":
        return {"precision": "bfloat16"}
    raise Unsupported(dtype)


def optimizer(opt: tuple[str, dict[str, float]]) -> tuple[str, dict[str, float]]:
    """A workload's optimizer by our names: `Trainer(parameters, *optimizer(workload.opt))`."""
    name, given = opt
    names = {
        "lr": "learning_rate",
        "momentum": "momentum",
        "b1": "beta1",
        "b2": "beta2",
        "eps": "epsilon",
        "wd": "wd",
        "init": "initial_accumulator_value",
    }
    return name, {names[key]: value for key, value in given.items()}


def staged(workload: Any) -> list[tuple[Any, ...]]:
    """The workload's batches as our arrays."""
    return [
        tuple(mx.np.array(part) for part in workload.batch_data(index)) for index in range(workload.nbatch)
    ]


def compiled_train(net: Any, workload: Any, dtype: str, **arguments: Any) -> Callable[[int], Any]:
    """One `TrainStep` a call over the workload's batches, cycled; returns the mean loss.

    Args:
        net: Holds the workload's initial weights.
        workload: Names loss and optimizer.
        dtype: fp32 or bf16.
        arguments: More of the trainer's.
    """
    trainer = mx.gluon.Trainer(net.collect_params(), *optimizer(workload.opt), **arguments)
    step = mx.gluon.TrainStep(net, LOSSES[workload.loss](), trainer, **precision(dtype))
    batches = staged(workload)
    return lambda index: step(*batches[index % len(batches)]).mean()


def compiled_infer(net: Any, workload: Any, dtype: str) -> Callable[..., np.ndarray]:
    """NumPy in, NumPy out, through an inference session with a plan for the workload's batch."""
    example = mx.np.array(workload.batch_data(0)[0])
    session: Callable[..., np.ndarray] = net.compile(example, sizes=(workload.batch,), **precision(dtype))
    return session


def dense_weights(layer: Any, weights: dict[str, np.ndarray], name: str) -> None:
    """Give a Dense layer the weights `name.weight` and `name.bias`."""
    layer.weight.set_data(mx.np.array(weights[f"{name}.weight"]))
    layer.bias.set_data(mx.np.array(weights[f"{name}.bias"]))
