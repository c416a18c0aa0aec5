"""What every engine is given: shapes, initial weights and data, from seeds, so that all do the same work.

Training cycles over `nbatch` batches that are staged beforehand; a step is forward, loss, backward and update
(batch norm's running statistics: 0.9 old + 0.1 new, unbiased variance). bf16 training is mixed: float32
parameters, optimizer states, norm statistics and loss. Inference takes and returns NumPy arrays. Optimizers
are as PyTorch defines them.
"""

from __future__ import annotations

import dataclasses
import math
import zlib
from pathlib import Path

import numpy as np

from benchmarks.models import ENCODER, FORECASTER, MLP, MULTIPLY_ADDS, PARAMETERS, RECOMMENDER, RESNETS, Draw

SEED = 20240229
CSR_ROWS, CSR_COLUMNS, CSR_ENTRIES, CSR_WIDTH = 100_000, 10_000, 1_000_000, 64
LOGITS, NORM, FUSED = (4096, 32000), (8192, 1024), 10_000_000
BOTH = ("fp32", "bf16")
Arrays = tuple[np.ndarray, ...]


class Unsupported(Exception):  # noqa: N818 - the name that harnesses look for
    """This engine does not offer the workload."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One row of the table.

    Attributes:
        id: Its name.
        kind: train, infer, micro or startup.
        model: Which program.
        description: For people.
        batch: Rows, or the side of a matrix.
        loss: bce, ce or mse.
        opt: The optimizer with its numbers.
        dtypes: Which precisions it is run in.
        steps: Timed calls of a process.
        warmup: Calls before them.
        inner: Calls of one timing.
        nbatch: Staged batches.
        rtol: How far fp32 losses or outputs may be from the peers', relative.
    """

    id: str
    kind: str
    model: str
    description: str
    batch: int = 0
    loss: str = ""
    opt: tuple[str, dict[str, float]] = ("", {})
    dtypes: tuple[str, ...] = ("fp32",)
    steps: int = 20
    warmup: int = 4
    inner: int = 1
    nbatch: int = 4
    rtol: float = 1e-3

    def params(self) -> dict[str, np.ndarray]:
        """Initial weights by name."""
        return {
            name: draw_parameter(f"{self.model}/{name}", shape, draw)
            for name, shape, draw in PARAMETERS[self.model]()
        }

    def batch_data(self, index: int = 0) -> Arrays:
        """Inputs (and target, when it trains) of one batch."""
        return _BATCHES[self.model](self, f"{self.id}/{index}")

    def flops(self) -> int:
        """Of matrix products and convolutions: 2 a multiply-add, backward twice the forward."""
        if self.model == "matmul":
            return 2 * self.batch**3
        if self.model == "spmm":
            return 2 * CSR_ENTRIES * CSR_WIDTH
        if self.model not in MULTIPLY_ADDS:
            return 0
        forward = 2 * MULTIPLY_ADDS[self.model]() * max(self.batch, 1)
        return 3 * forward if self.kind in ("train", "startup") else forward

    def bytes(self) -> int:
        """What an expression without matrix work must move, each operand once; 0 for all others."""
        elements = {
            "fused": 5 * FUSED,  # four inputs, one result
            "fused_grad": 10 * FUSED,  # four inputs and the upstream gradient, the value and four gradients
            "xent": 2 * math.prod(LOGITS),
            "layernorm": 4 * math.prod(NORM),
            "spmm": 2 * CSR_ENTRIES + (CSR_ROWS + CSR_COLUMNS) * CSR_WIDTH,
        }
        return 4 * elements.get(self.model, 0)


def generator(key: str) -> np.random.Generator:
    """Numbers that depend on the key alone, not on the order of generation."""
    return np.random.default_rng([SEED, zlib.crc32(key.encode())])


def draw_parameter(key: str, shape: tuple[int, ...], draw: Draw) -> np.ndarray:
    """A parameter's first values, float32."""
    if draw.kind == "constant":
        return np.full(shape, draw.low, np.float32)
    if draw.kind == "normal":
        return _normal(key, *shape) * np.float32(draw.high)
    unit = generator(key).random(shape, np.float32)
    return np.float32(draw.low) + unit * np.float32(draw.high - draw.low)


def _normal(key: str, *shape: int) -> np.ndarray:
    return generator(key).standard_normal(shape, np.float32)


def _labels(key: str, classes: int, *shape: int) -> np.ndarray:
    return generator(key).integers(0, classes, shape)


def _rows(workload: Workload, key: str) -> Arrays:
    return (
        _normal(key + "x", workload.batch, MLP[0]),
        _labels(key + "y", 2, workload.batch, 1).astype(np.float32),
    )


def _images(workload: Workload, key: str) -> Arrays:
    net = RESNETS[workload.model]
    pictures = _normal(key + "x", workload.batch, 3, net.size, net.size)
    return pictures, _labels(key + "y", net.classes, workload.batch)


def _sentences(workload: Workload, key: str) -> Arrays:
    tokens = _labels(key + "x", ENCODER.vocabulary, workload.batch, ENCODER.length)
    return tokens, _labels(key + "y", ENCODER.classes, workload.batch)


def _series(workload: Workload, key: str) -> Arrays:
    shape = (workload.batch, FORECASTER.length, FORECASTER.features)
    return _normal(key + "x", *shape), _normal(key + "y", workload.batch, FORECASTER.horizon)


def _clicks(workload: Workload, key: str) -> Arrays:
    """Ids are skewed to the small ones, so that a batch names some rows often, as logs of clicks do."""
    skewed = generator(key + "i").random((workload.batch, RECOMMENDER.tables)) ** 3
    return (
        _normal(key + "x", workload.batch, RECOMMENDER.dense),
        (skewed * RECOMMENDER.rows).astype(np.int64),
        _labels(key + "y", 2, workload.batch, 1).astype(np.float32),
    )


def _sparse(workload: Workload, key: str) -> Arrays:
    """indptr, columns and values of a CSR matrix, and the dense one that it is multiplied with."""
    drawn = generator(key + "p").integers(0, CSR_ROWS * CSR_COLUMNS, CSR_ENTRIES)
    places = np.unique(drawn)
    starts = np.searchsorted(places, np.arange(CSR_ROWS + 1) * CSR_COLUMNS)
    return (
        starts.astype(np.int64),
        (places % CSR_COLUMNS).astype(np.int64),
        _normal(key + "v", len(places)),
        _normal(key + "d", CSR_COLUMNS, CSR_WIDTH),
    )


def _logits(workload: Workload, key: str) -> Arrays:
    return _normal(key + "x", *LOGITS), _labels(key + "y", LOGITS[1], LOGITS[0])


def _norm_inputs(workload: Workload, key: str) -> Arrays:
    width = NORM[1]
    vectors = _normal(key + "w", width), _normal(key + "b", width)
    return _normal(key + "x", *NORM), *vectors, _normal(key + "g", *NORM)


_BATCHES = {
    "mlp": _rows,
    "resnet50": _images,
    "resnet18c": _images,
    "encoder": _sentences,
    "lstm": _series,
    "dlrm": _clicks,
    "spmm": _sparse,
    "xent": _logits,
    "layernorm": _norm_inputs,
    "add": lambda workload, key: (_normal(key + "a", 10), _normal(key + "b", 10)),
    "fused": lambda workload, key: tuple(_normal(key + name, FUSED) for name in "abcd"),
    "fused_grad": lambda workload, key: tuple(_normal(key + name, FUSED) for name in "abcdg"),
    "matmul": lambda workload, key: tuple(_normal(key + n, workload.batch, workload.batch) for n in "ab"),
}

ADAM = ("adam", {"lr": 1e-3, "b1": 0.9, "b2": 0.999, "eps": 1e-8})
ADAMW = ("adamw", {"lr": 1e-4, "b1": 0.9, "b2": 0.999, "eps": 1e-8, "wd": 0.01})
MOMENTUM = ("sgd", {"lr": 0.01, "momentum": 0.9})
ADAGRAD = ("adagrad", {"lr": 0.05, "init": 0.1, "eps": 1e-10})


def _training() -> list[Workload]:
    mlp = "MLP 64-256-256-1, Adam, batch"
    short = {"warmup": 3, "nbatch": 2, "dtypes": BOTH}
    images = {"loss": "ce", "opt": MOMENTUM, "rtol": 1e-2, **short}
    return [
        Workload("T1s", "train", "mlp", f"{mlp} 32", 32, "bce", ADAM, steps=1000, warmup=20),
        Workload("T1", "train", "mlp", f"{mlp} 256", 256, "bce", ADAM, steps=400, warmup=20),
        Workload("T1b", "train", "mlp", f"{mlp} 8192", 8192, "bce", ADAM, steps=60, warmup=6),
        Workload("T2", "train", "resnet50", "ResNet-50 training, batch 16", 16, steps=6, **images),
        Workload("T2b", "train", "resnet18c", "ResNet-18 training, 32x32, batch 128", 128, steps=8, **images),
        Workload("T3", "train", "encoder", "encoder training, batch 16", 16, "ce", ADAMW, steps=6, **short),
        Workload("T4", "train", "lstm", "LSTM forecaster training, batch 64", 64, "mse", ADAM),
        Workload("T5", "train", "dlrm", "DLRM training, batch 2048", 2048, "bce", ADAGRAD, steps=40),
    ]


def _inference() -> list[Workload]:
    def one(name: str, model: str, what: str, batch: int, steps: int, warmup: int) -> Workload:
        description = f"{what} inference, batch {batch}"
        return Workload(name, "infer", model, description, batch, dtypes=BOTH, steps=steps, warmup=warmup)

    return [
        one("I1a", "resnet50", "ResNet-50", 1, 200, 10),
        one("I1b", "resnet50", "ResNet-50", 32, 10, 2),
        one("I2a", "encoder", "encoder", 1, 150, 10),
        one("I2b", "encoder", "encoder", 16, 12, 2),
        one("I3a", "mlp", "MLP", 1, 2000, 100),
        one("I3b", "mlp", "MLP", 100_000, 20, 3),
    ]


def _expressions() -> list[Workload]:
    def one(name: str, model: str, what: str, steps: int, warmup: int = 8, **more: object) -> Workload:
        return Workload(name, "micro", model, what, steps=steps, warmup=warmup, **more)  # type: ignore[arg-type]

    both = "forward and backward"
    return [
        one("M1a", "add", "eager add of ten elements", 100, 5, inner=1000),
        one("M1b", "fused", "gelu(a*b+c) * sigmoid(d), 1e7", 20),
        one("M1c", "fused_grad", f"the same, {both}", 10),
        one("M1d", "xent", f"softmax cross-entropy 4096x32000, {both}", 6, 4),
        one("M1e", "layernorm", f"layer norm 8192x1024, {both}", 20),
        one("M1f", "spmm", "CSR 1e5x1e4 (0.1%) @ dense 1e4x64", 30),
        one("M1g", "matmul", "matmul 1024", 60, batch=1024, dtypes=BOTH),
        one("M1h", "matmul", "matmul 2048", 20, batch=2048, dtypes=BOTH),
    ]


WORKLOADS = {
    workload.id: workload
    for workload in (
        *_training(),
        *_inference(),
        *_expressions(),
        Workload("S1", "startup", "mlp", "start to first step", 256, "bce", ADAM, steps=0, warmup=1),
        Workload("flights", "train", "wide_and_deep", "the flight model on its real rows", 1024, steps=150),
    )
}


def flight_data(path: Path) -> dict[str, np.ndarray]:
    """The encoded rows that `make run` trained on: numeric, categorical, label, cardinalities."""
    with np.load(path) as archive:  # plain arrays: allow_pickle stays off
        return dict(archive)
