"""mxpipe as a peer: the programs that a user would write, over given weights and data.

The functions are those that a benchmark harness asks of every engine: setup, versions, sync, to_numpy, and
train / infer / micro, which return what is timed. `Unsupported` says what is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import mxpipe as mx

try:  # the harness's own class, where one runs us
    from bench.peers import Unsupported
except ImportError:

    class Unsupported(Exception):  # type: ignore[no-redef]  # noqa: N818
        """This engine does not offer the workload."""


def setup(threads: int, **options: Any) -> None:
    """Called once, first."""
    mx.set_num_threads(threads)


def versions() -> dict[str, str]:
    """Of everything that computes."""
    return {"mxpipe": mx.__version__}


def sync(value: Any) -> None:
    """Calls return when they are done."""


def to_numpy(value: Any) -> np.ndarray:
    """A copy in host memory."""
    return value.asnumpy()


def mlp(weights: dict[str, np.ndarray], prefix: str = "fc") -> mx.gluon.HybridBlock:
    """Dense layers with relu between, holding the given weights."""
    layers = sum(name.endswith(".weight") for name in weights)
    net = mx.gluon.nn.HybridSequential()
    for index in range(layers):
        outputs, inputs = weights[f"{prefix}{index}.weight"].shape
        net.add(
            mx.gluon.nn.Dense(outputs, activation="relu" if index < layers - 1 else None, in_units=inputs)
        )
    net.initialize()
    for index in range(layers):
        net[index].weight.set_data(mx.np.array(weights[f"{prefix}{index}.weight"]))
        net[index].bias.set_data(mx.np.array(weights[f"{prefix}{index}.bias"]))
    return net


def _optimizer(opt: tuple[str, dict[str, float]]) -> tuple[str, dict[str, float]]:
    name, given = opt
    names = {"lr": "learning_rate", "b1": "beta1", "b2": "beta2", "eps": "epsilon", "wd": "wd"}
    return name, {names[key]: value for key, value in given.items() if key in names}


def train(workload: Any, dtype: str) -> Callable[[int], Any]:
    """One compiled step over staged batches; returns the mean loss."""
    if workload.model != "mlp" or dtype != "fp32":
        raise Unsupported(f"{workload.model} in {dtype}")
    net = mlp(workload.params())
    trainer = mx.gluon.Trainer(net.collect_params(), *_optimizer(workload.opt))
    loss = mx.gluon.loss.SigmoidBinaryCrossEntropyLoss()
    step = mx.gluon.TrainStep(net, loss, trainer)
    batches = [
        tuple(mx.np.array(part) for part in workload.batch_data(index)) for index in range(workload.nbatch)
    ]
    return lambda index: step(*batches[index % len(batches)]).mean()


def train_flights(data: dict[str, np.ndarray], batch: int, arguments: dict[str, Any]) -> Callable[[int], Any]:
    """The flight model's step on its real rows."""
    net = mx.gluon.model_zoo.wide_and_deep(
        data["numeric"].shape[1], data["cardinalities"].tolist(), **arguments
    )
    net.initialize(mx.init.Xavier())
    trainer = mx.gluon.Trainer(net.collect_params(), "adamw", {"learning_rate": 0.002, "wd": 0.5})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.SigmoidBinaryCrossEntropyLoss(), trainer)
    count = len(data["label"]) // batch
    parts = [
        tuple(
            mx.np.array(data[name][at * batch : (at + 1) * batch])
            for name in ("numeric", "categorical", "label")
        )
        for at in range(min(count, 16))
    ]
    return lambda index: step(*parts[index % len(parts)]).mean()


def infer(workload: Any, dtype: str) -> Callable[..., np.ndarray]:
    """NumPy in, NumPy out, through a hybridized net."""
    if workload.model != "mlp" or dtype != "fp32":
        raise Unsupported(f"{workload.model} in {dtype}")
    net = mlp(workload.params())
    net.hybridize()
    return lambda *inputs: net(mx._native.array(inputs[0], None, False)).asnumpy()


def micro(workload: Any, dtype: str) -> Callable[[], Any]:
    """Single expressions; inputs are staged."""
    if dtype != "fp32":
        raise Unsupported(dtype)
    arrays = [mx.np.array(part) for part in workload.batch_data()]
    if workload.model == "add":
        left, right = arrays
        return lambda: left + right
    if workload.model == "matmul":
        left, right = arrays
        return lambda: mx.np.matmul(left, right)
    if workload.model in ("fused", "fused_grad"):
        return _fused(arrays)
    if workload.model == "xent":
        return _gradient_of(lambda x: mx.npx.softmax_cross_entropy(x, arrays[1]).mean(), arrays[:1])
    if workload.model == "layernorm":
        return _layer_norm(arrays)
    raise Unsupported(workload.model)


def _expression(a: Any, b: Any, c: Any, d: Any) -> Any:
    return mx.npx.gelu(a * b + c) * mx.npx.sigmoid(d)


def _fused(arrays: list[Any]) -> Callable[[], Any]:
    if len(arrays) == 4:
        compiled = mx._native.trace(_expression, arrays).compile()
        return lambda: compiled(*arrays)[0]
    *inputs, upstream = arrays

    def both(a: Any, b: Any, c: Any, d: Any, g: Any) -> Any:
        y = _expression(a, b, c, d)
        return (y, *mx.autograd.grad(y, [a, b, c, d], head_grads=g))

    compiled = mx._native.trace(both, [*inputs, upstream]).compile()
    return lambda: compiled(*inputs, upstream)


def _gradient_of(function: Callable[..., Any], variables: list[Any]) -> Callable[[], Any]:
    def both(*arguments: Any) -> Any:
        y = function(*arguments)
        return (y, *mx.autograd.grad(y, list(arguments)))

    compiled = mx._native.trace(both, variables).compile()
    return lambda: compiled(*variables)


def _layer_norm(arrays: list[Any]) -> Callable[[], Any]:
    def both(x: Any, gamma: Any, beta: Any, g: Any) -> Any:
        y = mx.npx.layer_norm(x, gamma, beta)
        return (y, *mx.autograd.grad(y, [x, gamma, beta], head_grads=g))

    compiled = mx._native.trace(both, arrays).compile()
    return lambda: compiled(*arrays)
