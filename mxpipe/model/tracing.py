"""From a net to the graph of a model: traced in predict mode, with the activation of the loss on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mxpipe import np as mx_np
from mxpipe import npx
from mxpipe.errors import MxpipeError, SpecificationError
from mxpipe.gluon import HybridBlock
from mxpipe.model.format import Activation, Tensor

_TRACED_ROWS = 2  # any size would do; 1 could be mistaken for a broadcast
_OTHER_ROWS = 3


class _WithActivation(HybridBlock):
    def __init__(self, net: Any, activation: Activation) -> None:
        super().__init__()
        self.net = net
        self._activation = activation

    def forward(self, *inputs: Any) -> Any:
        """Run the net, then the activation."""
        output = self.net(*inputs)
        if self._activation == "sigmoid":
            return npx.sigmoid(output)
        if self._activation == "softmax":
            return npx.softmax(output, axis=-1)
        return output


def trace_net(net: Any, inputs: Sequence[Tensor], activation: Activation) -> tuple[Any, dict[str, Any], int]:
    """Trace a net on such inputs.

    Returns:
        The graph, its parameters by name in the order of its inputs, and the number of output columns.

    Raises:
        SpecificationError: The net computes with the number of rows that it was traced with.
    """
    zeros = [mx_np.array(np.zeros((_TRACED_ROWS, *tensor.shape), tensor.dtype)) for tensor in inputs]
    trace = _WithActivation(net, activation).trace(*zeros)
    parameters = {name.removeprefix("net."): array for name, array in trace.parameters.items()}
    graph = trace.graph.rename_inputs([*(tensor.name for tensor in inputs), *parameters])
    _require_any_rows(graph, len(inputs))
    _, shape, _ = graph.outputs[0]
    return graph, parameters, int(shape[1]) if len(shape) == 2 else 1


def _require_any_rows(graph: Any, count: int) -> None:
    """Try another batch before a model is published that could be loaded for no other."""
    types = [
        ((_OTHER_ROWS, *shape[1:]) if position < count else shape, dtype)
        for position, (_, shape, dtype) in enumerate(graph.inputs)
    ]
    try:
        outputs = graph.retype(types).outputs
    except MxpipeError as error:
        raise SpecificationError(
            "[model] the net must take any number of rows, so that reshape says -1 for them, not "
            f"x.shape[0]; traced with {_TRACED_ROWS}, with {_OTHER_ROWS} it got: {error}"
        ) from error
    if any(shape[0] != _OTHER_ROWS for _, shape, _ in outputs):
        raise SpecificationError(
            f"[model] the net must give one result a row; {_OTHER_ROWS} rows gave shape {outputs[0][1]}."
        )
