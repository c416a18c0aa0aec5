"""M1a to M1e, M1g, M1h: single expressions over staged inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mxpipe as mx
from benchmarks.workloads import Unsupported


def micro(workload: Any, dtype: str) -> Callable[..., Any]:
    """Single expressions; inputs are staged."""
    arrays = [mx.np.array(part) for part in workload.batch_data()]
    if dtype == "bf16" and workload.model == "matmul":
        arrays = [part.astype("bfloat16") for part in arrays]
    elif dtype != "fp32":
        raise Unsupported(dtype)
    if workload.model == "add":
        left, right = arrays
        return lambda index=0: left + right
    if workload.model == "matmul":
        left, right = arrays
        return lambda index=0: mx.np.matmul(left, right)
    if workload.model in ("fused", "fused_grad"):
        return _fused(arrays)
    if workload.model == "xent":
        return _gradient_of(lambda x: mx.npx.softmax_cross_entropy(x, arrays[1]).mean(), arrays[:1])
    if workload.model == "layernorm":
        return _layer_norm(arrays)
    raise Unsupported(workload.model)


def _expression(a: Any, b: Any, c: Any, d: Any) -> Any:
    return mx.npx.gelu(a * b + c) * mx.npx.sigmoid(d)


def _fused(arrays: list[Any]) -> Callable[..., Any]:
    if len(arrays) == 4:
        compiled = mx._native.trace(_expression, arrays).compile()
        return lambda index=0: compiled(*arrays)[0]
    *inputs, upstream = arrays

    def both(a: Any, b: Any, c: Any, d: Any, g: Any) -> Any:
        y = _expression(a, b, c, d)
        return (y, *mx.autograd.grad(y, [a, b, c, d], head_grads=g))

    compiled = mx._native.trace(both, [*inputs, upstream]).compile()
    return lambda index=0: compiled(*inputs, upstream)


def _gradient_of(function: Callable[..., Any], variables: list[Any]) -> Callable[..., Any]:
    def both(*arguments: Any) -> Any:
        y = function(*arguments)
        return (y, *mx.autograd.grad(y, list(arguments)))

    compiled = mx._native.trace(both, variables).compile()
    return lambda index=0: compiled(*variables)


def _layer_norm(arrays: list[Any]) -> Callable[..., Any]:
    def both(x: Any, gamma: Any, beta: Any, g: Any) -> Any:
        y = mx.npx.layer_norm(x, gamma, beta)
        return (y, *mx.autograd.grad(y, [x, gamma, beta], head_grads=g))

    compiled = mx._native.trace(both, arrays).compile()
    return lambda index=0: compiled(*arrays)
