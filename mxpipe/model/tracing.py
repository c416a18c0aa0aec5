"""From a net to the graph of a model: traced in predict mode, with the activation of the loss on top."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe import np as mx_np
from mxpipe import npx
from mxpipe.gluon import HybridBlock
from mxpipe.model.format import Activation

if TYPE_CHECKING:
    from mxpipe.data import Preprocessor

_TRACED_ROWS = 2  # any size would do; 1 could be mistaken for a broadcast


class _WithActivation(HybridBlock):
    def __init__(self, net: Any, activation: Activation) -> None:
        super().__init__()
        self.net = net
        self._activation = activation

    def forward(self, numeric: Any, categorical: Any) -> Any:
        """Run the net, then the activation."""
        output = self.net(numeric, categorical)
        if self._activation == "sigmoid":
            return npx.sigmoid(output)
        if self._activation == "softmax":
            return npx.softmax(output, axis=-1)
        return output


def trace_net(
    net: Any, preprocessor: Preprocessor, activation: Activation
) -> tuple[Any, dict[str, Any], int]:
    """Trace a net on rows as the preprocessor gives them.

    Returns:
        The graph, its parameters by name in the order of its inputs, and the number of output columns.
    """
    numeric = mx_np.array(np.zeros((_TRACED_ROWS, preprocessor.numeric_width), np.float32))
    categorical = mx_np.array(np.zeros((_TRACED_ROWS, len(preprocessor.categorical)), np.int32))
    trace = _WithActivation(net, activation).trace(numeric, categorical)
    parameters = {name.removeprefix("net."): array for name, array in trace.parameters.items()}
    graph = trace.graph.rename_inputs(["numeric", "categorical", *parameters])
    _, shape, _ = graph.outputs[0]
    return graph, parameters, 1 if len(shape) == 1 else int(shape[-1])
