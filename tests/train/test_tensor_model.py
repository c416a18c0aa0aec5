"""Models of arrays: images, sequences and ids go in as they are, and what does not fit is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import ModelFormatError, RequestError
from mxpipe.model import Tensor, load_model, save_model
from mxpipe.model.storage import canonical_digest

IMAGE = Tensor("image", "float32", (1, 8, 8))


class Pair(mx.gluon.HybridBlock):
    """A sequence of ids and a vector, as a recommender has them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.gluon.nn.Embedding(50, 4)
        self.out = mx.gluon.nn.Dense(1)

    def forward(self, ids: Any, dense: Any) -> Any:
        return self.out(mx.np.concatenate([self.embedding(ids).mean(axis=1), dense], axis=1))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    mx.random.seed(5)
    net = mx.gluon.nn.HybridSequential()
    net.add(
        mx.gluon.nn.Conv2D(4, 3, in_channels=1, activation="relu"),
        mx.gluon.nn.BatchNorm(),
        mx.gluon.nn.Dense(10),
    )
    net.initialize()
    path = tmp_path_factory.mktemp("tensors") / "digits"
    save_model(path, net, tensors=[IMAGE], activation="softmax", metadata={"classes": 10})
    return path, net


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    net = Pair()
    net.initialize()
    path = tmp_path_factory.mktemp("tensors") / "pairs"
    save_model(path, net, tensors=[Tensor("ids", "int32", (6,)), Tensor("dense", "float32", (3,))])
    return path


def test_predictions_are_those_of_the_net(images: tuple[Path, Any]) -> None:
    path, net = images
    batch = np.random.default_rng(1).normal(size=(13, 1, 8, 8)).astype(np.float32)
    logits = net(mx.np.array(batch)).asnumpy().astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    model = load_model(path)
    for data in (batch, {"image": batch}, {"image": batch.tolist()}, batch.astype(np.float64)):
        np.testing.assert_allclose(model.predict(data), expected, rtol=1e-4, atol=1e-6)
    assert model.predict(batch[:0]).shape == (0, 10)
    assert model.warm_up().shape == (1, 10)
    assert model.tensors == (IMAGE,)
    assert model.signature == ()
    assert model.output == Tensor("output", "float32", (10,))
    assert model.output_names[:2] == ("probability_0", "probability_1")
    assert model.metadata == {"classes": 10}


def test_several_inputs_go_by_name(pairs: Path) -> None:
    model = load_model(pairs)
    data = {"ids": np.ones((4, 6), np.int64), "dense": np.zeros((4, 3)), "further": np.zeros(9)}
    assert model.predict(data).shape == (4,)
    assert model.output == Tensor("output", "float32", ())
    assert model.output_names == ("output",)
    with pytest.raises(RequestError, match="by name"):
        model.predict(np.ones((4, 6)))
    with pytest.raises(ModelFormatError, match="takes arrays"):
        _ = model.preprocessor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": None}, "'ids'.*must be given"),
        ({"ids": np.ones((4, 5), int)}, r"'ids'.*\(n, 6\)"),
        ({"ids": np.ones(6, int)}, "'ids'.*shape"),
        ({"ids": np.ones((4, 6))}, "'ids'.*int32; got float64"),
        ({"ids": np.full((4, 6), 2**40)}, "'ids'.*within int32"),
        ({"dense": [[1.0], [1.0, 2.0]]}, "'dense'.*one array"),
        ({"dense": [["a", "b", "c"]] * 4}, "'dense'.*float32"),
        ({"dense": np.zeros((5, 3))}, "same number of rows"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(pairs: Path, change: dict[str, Any], message: str) -> None:
    data = {"ids": np.ones((4, 6), np.int32), "dense": np.zeros((4, 3), np.float32)} | change
    with pytest.raises(RequestError, match=message):
        load_model(pairs).predict({name: value for name, value in data.items() if value is not None})


def test_precision_is_chosen_at_load(images: tuple[Path, Any]) -> None:
    batch = np.random.default_rng(1).normal(size=(8, 1, 8, 8)).astype(np.float32)
    exact, rounded = load_model(images[0]), load_model(images[0], precision="bfloat16")
    assert (exact.precision, rounded.precision) == ("float32", "bfloat16")
    difference = np.abs(exact.predict(batch) - rounded.predict(batch)).max()
    assert 0 < difference < 0.02


def test_exactly_one_kind_of_input_is_named(images: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="exactly one"):
        save_model(tmp_path / "m", images[1])
    for dtype, shape in (("string", (1,)), ("float32", (-1, 3))):
        with pytest.raises(ModelFormatError, match="tensor 'x'"):
            Tensor("x", dtype, shape)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda c: c.update(tensors=[]), "'tensors'"),
        (lambda c: c.update(format_version=1), "'tensors'"),
        (lambda c: c.update(inputs=["other"]), "'inputs'"),
        (lambda c: c["tensors"][0].pop("shape"), r"'tensors\[0\]'"),
        (lambda c: c["tensors"][0].update(dtype="object"), "'tensors'.*dtype"),
        (lambda c: c["tensors"][0].update(dtype="int32"), "'graph'.*types"),
        (lambda c: c["tensors"][0].update(shape=[1, 9, 9]), "'graph'.*shapes"),
    ],
)
def test_a_wrong_field_is_refused_by_name(
    images: tuple[Path, Any], tmp_path: Path, change: Any, field: str
) -> None:
    content = json.loads((images[0] / "model.json").read_text())
    change(content)
    content.pop("sha256")
    (tmp_path / "model.json").write_text(json.dumps(content | {"sha256": canonical_digest(content)}))
    (tmp_path / "weights.safetensors").write_bytes((images[0] / "weights.safetensors").read_bytes())
    with pytest.raises(ModelFormatError, match=field):
        load_model(tmp_path)
