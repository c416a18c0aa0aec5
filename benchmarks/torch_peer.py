"""PyTorch as a peer, eager or compiled: fused optimizers, autocast in bf16 training, bf16 models to infer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional
from torch import nn

from benchmarks.torch_models import WideAndDeep, build
from benchmarks.workloads import Unsupported

_compiled = False
_LOSSES = {
    "bce": functional.binary_cross_entropy_with_logits,
    "ce": functional.cross_entropy,
    "mse": functional.mse_loss,
}


def setup(threads: int, compile: bool = False) -> None:
    """Called once, first."""
    global _compiled
    _compiled = compile
    warnings.filterwarnings("ignore")
    torch.set_num_threads(threads)
    torch.set_num_interop_threads(1)


def versions() -> dict[str, str]:
    """Of everything that computes."""
    return {"torch": torch.__version__}


def sync(value: Any) -> None:
    """Calls return when they are done."""


def to_numpy(value: torch.Tensor) -> np.ndarray:
    """In host memory, float32."""
    return value.detach().float().numpy()


def _staged(arrays: tuple[np.ndarray, ...]) -> list[torch.Tensor]:
    tensors = [torch.from_numpy(array) for array in arrays]
    return [one.contiguous(memory_format=torch.channels_last) if one.dim() == 4 else one for one in tensors]


def _optimizers(workload: Any, net: Any) -> list[torch.optim.Optimizer]:
    name, given = workload.opt
    parameters = list(net.parameters())
    if name == "sgd":
        return [torch.optim.SGD(parameters, given["lr"], given["momentum"], fused=True)]
    if name == "adagrad":  # the fused one takes no sparse gradient
        numbers = {"lr": given["lr"], "initial_accumulator_value": given["init"], "eps": given["eps"]}
        dense = torch.optim.Adagrad(net.plain.parameters(), fused=True, **numbers)
        return [torch.optim.Adagrad([net.table.weight], **numbers), dense]
    betas = given["b1"], given["b2"]
    if name == "adamw":
        return [torch.optim.AdamW(parameters, given["lr"], betas, given["eps"], given["wd"], fused=True)]
    return [torch.optim.Adam(parameters, given["lr"], betas, given["eps"], fused=True)]


def _step(
    loss_of: Callable[..., torch.Tensor],
    optimizers: list[torch.optim.Optimizer],
    batches: list[list[torch.Tensor]],
) -> Callable[[int], torch.Tensor]:
    def step(index: int) -> torch.Tensor:
        loss = loss_of(*batches[index % len(batches)])
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return step


def train(workload: Any, dtype: str) -> Callable[[int], torch.Tensor]:
    """One step over staged batches; returns the mean loss."""
    if _compiled and workload.model == "lstm":
        raise Unsupported("torch.compile leaves nn.LSTM to the eager kernel")
    net = build(workload, _compiled).train()
    loss = _LOSSES[workload.loss]

    def loss_of(*batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
            outputs = net(*batch[:-1])
        return loss(outputs.float(), batch[-1])

    if _compiled and workload.model != "dlrm":  # sparse gradients stay outside what is compiled
        loss_of = torch.compile(loss_of)
    batches = [_staged(workload.batch_data(index)) for index in range(workload.nbatch)]
    return _step(loss_of, _optimizers(workload, net), batches)


def infer(workload: Any, dtype: str) -> Callable[[np.ndarray], np.ndarray]:
    """NumPy in, NumPy out; compiled weights are frozen and packed."""
    net = build(workload, _compiled).eval()
    half = dtype == "bf16"
    if half:
        net = net.bfloat16()
    if _compiled:
        import torch._inductor.config as settings

        settings.freezing = True
        net = torch.compile(net)

    def call(array: np.ndarray) -> np.ndarray:
        with torch.no_grad() if _compiled else torch.inference_mode():
            (x,) = _staged((array,))
            return net(x.bfloat16() if half and x.is_floating_point() else x).float().numpy()

    return call


def micro(workload: Any, dtype: str) -> Callable[[int], Any]:
    """Single expressions over staged inputs."""
    arrays = [torch.from_numpy(array) for array in workload.batch_data()]
    if workload.model in ("add", "matmul", "spmm"):
        return _operation(workload.model, arrays, dtype)
    wrap = torch.compile if _compiled else lambda function: function
    if workload.model == "fused":
        expression = wrap(_expression)

        def forward(index: int = 0) -> torch.Tensor:
            with torch.no_grad():
                return expression(*arrays)

        return forward
    if workload.model == "fused_grad":
        return _both(wrap(_expression), arrays[:4], arrays[4])
    if workload.model == "xent":
        logits, labels = arrays
        return _both(wrap(lambda x: functional.cross_entropy(x, labels)), [logits], None)
    *inputs, upstream = arrays
    width = inputs[1].shape
    return _both(wrap(lambda x, g, b: functional.layer_norm(x, width, g, b, 1e-5)), inputs, upstream)


def _operation(model: str, arrays: list[torch.Tensor], dtype: str) -> Callable[[int], torch.Tensor]:
    if model == "spmm":
        starts, columns, values, dense = arrays
        matrix = torch.sparse_csr_tensor(starts, columns, values, (len(starts) - 1, dense.shape[0]))
        return lambda index=0: matrix @ dense
    if _compiled and model == "add":
        raise Unsupported("an eager call")
    left, right = (one.bfloat16() for one in arrays) if dtype == "bf16" else arrays
    operation = torch.add if model == "add" else torch.mm
    return lambda index=0: operation(left, right)


def _expression(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
    return functional.gelu(a * b + c) * torch.sigmoid(d)


def _both(
    function: Callable[..., torch.Tensor], inputs: list[torch.Tensor], upstream: torch.Tensor | None
) -> Callable[[int], tuple[torch.Tensor, ...]]:
    variables = [one.requires_grad_() for one in inputs]

    def call(index: int = 0) -> tuple[torch.Tensor, ...]:
        output = function(*variables)
        return output.detach(), *torch.autograd.grad(output, variables, upstream)

    return call


def train_flights(data: dict[str, np.ndarray], batch: int, arguments: dict[str, Any]) -> Callable[[int], Any]:
    """The flight model's step on its real rows."""
    net = WideAndDeep(data["numeric"].shape[1], data["cardinalities"].tolist(), arguments)
    optimizer = torch.optim.AdamW(net.parameters(), 0.002, weight_decay=0.5, fused=True)
    loss = nn.BCEWithLogitsLoss()
    batches = []
    for at in range(min(len(data["label"]) // batch, 16)):
        rows = slice(at * batch, (at + 1) * batch)
        batches.append([torch.from_numpy(data[name][rows]) for name in ("numeric", "categorical")])
        batches[-1].append(torch.from_numpy(data["label"][rows]).reshape(-1, 1))
    return _step(lambda *parts: loss(net(*parts[:-1]), parts[-1]), [optimizer], batches)
