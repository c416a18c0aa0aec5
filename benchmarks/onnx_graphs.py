"""The inference workloads as ONNX files, for OpenVINO and ONNX Runtime; written once to build/bench/onnx."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models import ENCODER, RESNETS, Convolution, residual_blocks

FOLDER = Path(os.environ.get("BENCH_ONNX", Path(__file__).resolve().parents[1] / "build" / "bench" / "onnx"))


class GraphWriter:
    """Appends nodes; every method takes and returns names of values."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Any op with one result."""
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, name: str) -> str:
        """A parameter as it is."""
        self.constants[name] = self.weights[name]
        return name

    def constant(self, value: Any) -> str:
        """Anything else."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(value)
        return name

    def dense(self, x: str, name: str) -> str:
        """x @ weight.T + bias."""
        weight = self.constant(np.ascontiguousarray(self.weights[f"{name}.weight"].T))
        return self.op("Add", self.op("MatMul", x, weight), self.weight(f"{name}.bias"))

    def convolved(self, x: str, one: Convolution, padding: int | None = None) -> str:
        """Convolution and batch norm."""
        pad = one.kernel // 2 if padding is None else padding
        sizes = {"kernel_shape": [one.kernel] * 2, "strides": [one.stride] * 2, "pads": [pad] * 4}
        y = self.op("Conv", x, self.weight(f"{one.name}.weight"), **sizes)
        parts = [self.weight(f"{one.norm}.{k}") for k in ("weight", "bias", "running_mean", "running_var")]
        return self.op("BatchNormalization", y, *parts, epsilon=1e-5)

    def norm(self, x: str, name: str) -> str:
        """Layer norm over the last axis."""
        gamma, beta = self.weight(f"{name}.gamma"), self.weight(f"{name}.beta")
        return self.op("LayerNormalization", x, gamma, beta, axis=-1, epsilon=ENCODER.eps)


def _mlp(graph: GraphWriter, x: str, layers: int) -> str:
    for index in range(layers):
        x = graph.dense(x, f"fc{index}")
        x = graph.op("Relu", x) if index < layers - 1 else x
    return x


def _resnet(graph: GraphWriter, x: str, name: str) -> str:
    net = RESNETS[name]
    kernel, stride, padding = net.stem
    x = graph.op("Relu", graph.convolved(x, Convolution("stem.conv0", 3, 64, kernel, stride), padding))
    if net.pool:
        x = graph.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for block in residual_blocks(net):
        y = x
        for one in block.convolutions:
            y = graph.convolved(y, one)
            y = y if one is block.convolutions[-1] else graph.op("Relu", y)
        shortcut = graph.convolved(x, block.shortcut) if block.shortcut else x
        x = graph.op("Relu", graph.op("Add", y, shortcut))
    return graph.dense(graph.op("Flatten", graph.op("GlobalAveragePool", x)), "fc")


def _attention(graph: GraphWriter, x: str, layer: str, batch: int) -> str:
    heads, length = ENCODER.heads, ENCODER.length
    depth = ENCODER.hidden // heads
    shape = graph.constant(np.array([batch, length, 3, heads, depth]))
    qkv = graph.op("Reshape", graph.dense(x, f"{layer}.qkv"), shape)
    query, key, value = (
        graph.op(
            "Transpose", graph.op("Gather", qkv, graph.constant(np.array(part)), axis=2), perm=list(order)
        )
        for part, order in enumerate([(0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)])
    )
    scores = graph.op("Mul", graph.op("MatMul", query, key), graph.constant(np.float32(depth**-0.5)))
    attended = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    flat = graph.constant(np.array([batch, length, ENCODER.hidden]))
    joined = graph.op("Reshape", graph.op("Transpose", attended, perm=[0, 2, 1, 3]), flat)
    return graph.dense(joined, f"{layer}.out")


def _encoder(graph: GraphWriter, ids: str, batch: int) -> str:
    x = graph.op("Add", graph.op("Gather", graph.weight("tok"), ids), graph.weight("pos"))
    x = graph.norm(x, "ln")
    for index in range(ENCODER.layers):
        layer = f"l{index}"
        x = graph.norm(graph.op("Add", x, _attention(graph, x, layer, batch)), f"{layer}.ln1")
        y = graph.dense(graph.op("Gelu", graph.dense(x, f"{layer}.up")), f"{layer}.down")
        x = graph.norm(graph.op("Add", x, y), f"{layer}.ln2")
    first = graph.op("Gather", x, graph.constant(np.array(0)), axis=1)
    return graph.dense(graph.op("Tanh", graph.dense(first, "pool")), "cls")


def build(workload: Any) -> Any:
    """The model, for exactly the workload's batch."""
    inputs = workload.batch_data()[0]
    graph = GraphWriter(workload.params())
    if workload.model == "encoder":
        output = _encoder(graph, "x", workload.batch)
    elif workload.model == "mlp":
        output = _mlp(graph, "x", len(graph.weights) // 2)
    else:
        output = _resnet(graph, "x", workload.model)
    kind = TensorProto.INT64 if inputs.dtype == np.int64 else TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        workload.id,
        [helper.make_tensor_value_info("x", kind, inputs.shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def path_for(workload: Any) -> str:
    """The file, written when it is first asked for."""
    path = FOLDER / f"{workload.model}-{workload.batch}.onnx"
    if not path.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".part")
        onnx.save(build(workload), str(aside))
        aside.replace(path)
    return str(path)
