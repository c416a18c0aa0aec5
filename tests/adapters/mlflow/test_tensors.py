"""Models of tensors in the flavor: images by an array, several inputs by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel

import mxpipe as mx
import mxpipe_mlflow
from mxpipe.errors import RequestError
from mxpipe.model import Tensor, load_model, save_model


class Pair(mx.gluon.HybridBlock):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = mx.gluon.nn.Embedding(50, 4)
        self.out = mx.gluon.nn.Dense(1)

    def forward(self, ids: Any, dense: Any) -> Any:
        return self.out(mx.np.concatenate([self.embedding(ids).mean(axis=1), dense], axis=1))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Any:
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=1), mx.gluon.nn.Dense(10))
    net.initialize()
    path = tmp_path_factory.mktemp("tensors") / "digits"
    save_model(path, net, tensors=[Tensor("image", "float32", (1, 8, 8))], activation="softmax")
    return load_model(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    net = Pair()
    net.initialize()
    path = tmp_path_factory.mktemp("tensors") / "pairs"
    save_model(path, net, tensors=[Tensor("ids", "int32", (6,)), Tensor("dense", "float32", (3,))])
    return load_model(path)


@pytest.fixture(scope="module")
def batch() -> Any:
    return np.random.default_rng(3).normal(size=(5, 1, 8, 8)).astype(np.float32)


PAIR = {"ids": np.arange(12, dtype=np.int32).reshape(2, 6), "dense": np.ones((2, 3), np.float32)}


def test_native_and_pyfunc_give_the_same_bits(images: Any, batch: Any, tmp_path: Path) -> None:
    mxpipe_mlflow.save_model(images, tmp_path / "saved", input_example=batch)
    expected = images.predict(batch)
    np.testing.assert_array_equal(mxpipe_mlflow.load_model(str(tmp_path / "saved")).predict(batch), expected)
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    np.testing.assert_array_equal(pyfunc.predict(batch), expected)
    np.testing.assert_array_equal(
        pyfunc.predict(pd.DataFrame({"flat": list(batch.reshape(5, -1))})), expected
    )
    assert pyfunc.input_example.shape == batch.shape


def test_signature_of_one_tensor_and_of_several(images: Any, pairs: Any, tmp_path: Path) -> None:
    for model in (images, pairs):
        mxpipe_mlflow.save_model(model, tmp_path / model.path.name)
    one = MlflowModel.load(str(tmp_path / "digits")).signature
    assert [(spec.name, str(spec.type), spec.shape) for spec in one.inputs] == [
        (None, "float32", (-1, 1, 8, 8))
    ]
    assert [(str(spec.type), spec.shape) for spec in one.outputs] == [("float32", (-1, 10))]
    several = MlflowModel.load(str(tmp_path / "pairs")).signature
    assert several.inputs.input_names() == ["ids", "dense"]
    assert [spec.shape for spec in several.outputs] == [(-1,)]


@pytest.mark.parametrize("signature", [None, False])
@pytest.mark.parametrize("with_example", [False, True])
def test_signature_and_example_are_independent(
    pairs: Any, tmp_path: Path, signature: Any, with_example: bool
) -> None:
    example = PAIR if with_example else None
    mxpipe_mlflow.save_model(pairs, tmp_path / "saved", signature=signature, input_example=example)
    saved = MlflowModel.load(str(tmp_path / "saved"))
    assert (saved.signature is None) == (signature is False)
    assert (saved.saved_input_example_info is None) == (not with_example)
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    np.testing.assert_array_equal(pyfunc.predict(PAIR), pairs.predict(PAIR))
    frame = pd.DataFrame({name: list(array) for name, array in PAIR.items()})
    np.testing.assert_array_equal(pyfunc.predict(frame), pairs.predict(PAIR))


@pytest.mark.parametrize("kind", ["images", "pairs"])
def test_the_serving_example_can_be_scored(
    kind: str, batch: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By the function that MLflow's own server hands requests to."""
    from mlflow.pyfunc.scoring_server import invocations

    model = request.getfixturevalue(kind)
    example = batch if kind == "images" else PAIR
    mxpipe_mlflow.save_model(model, tmp_path / "saved", input_example=example)
    body = (tmp_path / "saved" / "serving_input_example.json").read_text()
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    answer = invocations(body, "application/json", pyfunc, pyfunc.metadata.get_input_schema())
    assert answer.status == 200, answer.response
    scored = np.array(json.loads(answer.response)["predictions"], np.float32)
    np.testing.assert_allclose(scored, model.predict(example), rtol=1e-6)


def test_what_does_not_fit_is_refused(images: Any, pairs: Any, batch: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"'image'.*shape"):
        mxpipe_mlflow.save_model(images, tmp_path / "refused", input_example=batch[:, :, :4])
    mxpipe_mlflow.save_model(images, tmp_path / "saved")
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    with pytest.raises(MlflowException, match="Shape of input"):
        pyfunc.predict(batch[:, :, :4])
    wrapper = mxpipe_mlflow.PyfuncModel(pairs)
    with pytest.raises(RequestError, match="'ids'"):
        wrapper.predict(pd.DataFrame({"ids": [[1, 2]], "dense": [[1.0, 2.0, 3.0]]}))
    with pytest.raises(RequestError, match=r"'dense'.*must be given"):
        wrapper.predict(pd.DataFrame({"ids": [[1, 2, 3, 4, 5, 6]]}))
    classes = mxpipe_mlflow.PyfuncModel(images, output="class").predict(batch)
    np.testing.assert_array_equal(classes, images.predict(batch).argmax(axis=1))
