"""Floating-point operations and bytes of a plan's step, counted from shapes: a multiply-add is two.

Enters: a step as `_native.plan_report` describes it. Leaves: numbers. Only work that matrix instructions do,
reductions and elementwise arithmetic are counted; what moves data only counts as 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["count_bytes", "count_flops"]

_Shapes = Sequence[tuple[int, ...]]
_Rule = Callable[[_Shapes, _Shapes, dict[str, Any]], int]


def count_flops(step: dict[str, Any]) -> int:
    """Operations of one run of a step.

    Args:
        step: op, attributes, operations, and inputs and outputs with their shapes.

    Example:
        >>> inputs, outputs = [{"shape": (4, 8)}, {"shape": (2, 8)}], [{"shape": (4, 2)}]
        >>> step = {"op": "fully_connected", "attributes": {}, "inputs": inputs, "outputs": outputs}
        >>> count_flops(step | {"operations": 0})
        128
    """
    if step["operations"]:
        return int(step["operations"])
    inputs = [operand["shape"] for operand in step["inputs"]]
    outputs = [operand["shape"] for operand in step["outputs"]]
    rule = _RULES.get(step["op"])
    return rule(inputs, outputs, step["attributes"]) if rule else 0


def count_bytes(step: dict[str, Any]) -> int:
    """Bytes that one run of a step must move: each operand once, of a gathered table the rows that are read.

    Args:
        step: op, and inputs and outputs with their bytes.

    Example:
        >>> table, ids, rows = {"bytes": 4000}, {"bytes": 16}, {"bytes": 80}
        >>> count_bytes({"op": "embedding", "inputs": [table, ids], "outputs": [rows]})
        176
    """
    inputs = [int(operand["bytes"]) for operand in step["inputs"]]
    outputs = [int(operand["bytes"]) for operand in step["outputs"]]
    if step["op"] in _GATHERS:
        return sum(inputs[1:]) + 2 * sum(outputs)
    if step["op"] in _SCATTERS:
        return sum(inputs[1:]) + inputs[-1]
    return sum(inputs) + sum(outputs)


_GATHERS, _SCATTERS = ("embedding", "take", "take_rows"), ("scatter_rows",)


def _matmul(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
    left = inputs[0]
    inner = left[-2] if attributes.get("transpose_a") and len(left) > 1 else left[-1]
    return 2 * math.prod(outputs[0]) * inner


def _fully_connected(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
    return 2 * math.prod(outputs[0]) * inputs[1][-1]


def _convolution(many: tuple[int, ...], weight: tuple[int, ...]) -> int:
    """Every element of the strided side meets every weight of its channel: `weight` is (out, in, ...)."""
    return 2 * math.prod(many) * math.prod(weight[1:])


def _attention(result: int, query: int, products: int) -> _Rule:
    """So many products of scores and vectors.

    Args:
        result: Which input has the result's shape (batch, queries, heads, depth); -1 for the output.
        query: Which input is the query, or query, key and value as one (batch, tokens, 3, heads, depth).
        products: Two forward; backward makes the scores again, and two gradients of each product.
    """

    def count(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
        packed = len(inputs[query]) == 5
        keys = inputs[query if packed else query + 1][1]
        shape = outputs[0] if result < 0 else inputs[result]
        return 2 * products * math.prod(shape) * keys // (2 if attributes.get("causal") else 1)

    return count


def _recurrent(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
    """Inputs (time, batch, n) and states meet their weights (gates * units, n or units) at each time."""
    steps = math.prod(inputs[0][:2])
    return 2 * steps * (math.prod(inputs[1]) + math.prod(inputs[2]))


def _recurrent_backward(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
    """The states' gradients; those of weights and inputs are products of their own."""
    return 2 * math.prod(outputs[0][:2]) * math.prod(inputs[0])


def _interaction(factor: int) -> _Rule:
    """Dot products of all pairs of f + 1 vectors a sample: rows are (n, f, d)."""

    def count(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
        samples, others, depth = next(shape for shape in inputs if len(shape) == 3)
        return factor * samples * (others + 1) * others * depth

    return count


def _per_element(operations: int) -> _Rule:
    """Reductions and normalizations: so many operations for each element of the largest operand."""

    def count(inputs: _Shapes, outputs: _Shapes, attributes: dict[str, Any]) -> int:
        return operations * max([math.prod(shape) for shape in (*inputs, *outputs)], default=0)

    return count


_RULES: dict[str, _Rule] = {
    "matmul": _matmul,
    "fully_connected": _fully_connected,
    "convolution": lambda inputs, outputs, _: _convolution(outputs[0], inputs[1]),
    "convolution_backward_data": lambda inputs, outputs, _: _convolution(inputs[0], inputs[1]),
    "convolution_backward_weights": lambda inputs, outputs, _: _convolution(inputs[1], outputs[0]),
    "attention": _attention(-1, 0, 2),
    "attention_backward": _attention(1, 3, 5),
    **dict.fromkeys(("lstm", "gru", "rnn"), _recurrent),
    **dict.fromkeys(("lstm_backward", "gru_backward", "rnn_backward"), _recurrent_backward),
    "csr_matmul": lambda inputs, outputs, _: 2 * math.prod(inputs[0]) * inputs[3][-1],
    "csr_sampled_matmul": lambda inputs, outputs, _: 2 * math.prod(inputs[0]) * inputs[2][-1],
    "dot_interaction": _interaction(1),
    "dot_interaction_backward": _interaction(2),
}

_PER_ELEMENT = {
    1: "sum mean max min prod argmax argmin max_pool avg_pool embedding_grad take_grad",
    4: "softmax log_softmax softmax_cross_entropy",
    5: "layer_norm batch_norm group_norm instance_norm rms_norm",
}
for _operations, _names in _PER_ELEMENT.items():
    for _name in _names.split():
        _RULES[_name] = _per_element(_operations)
        _RULES[f"{_name}_backward"] = _per_element(2 * _operations)
