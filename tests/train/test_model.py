"""The model folder: what goes in comes out, and what is damaged is refused by file and field."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.data import FeatureSpec, Preprocessor, Snapshot
from mxpipe.errors import ModelFormatError, RequestError, SpecificationError, StorageError
from mxpipe.model import Model, load_model, model_digest, save_model
from mxpipe.model.storage import canonical_digest

Tables = tuple[str, str]


def make_net(preprocessor: Preprocessor) -> Any:
    mx.random.seed(3)
    net = mx.gluon.model_zoo.wide_and_deep(
        preprocessor.numeric_width, preprocessor.cardinalities, hidden_units=[8], norm="batch", dropout=0.5
    )
    net.initialize()
    return net


@pytest.fixture(scope="module")
def preprocessor(snapshots: Tables) -> Preprocessor:
    features = FeatureSpec(numeric=["distance", "hour"], categorical=["carrier"], label="late")
    return Preprocessor.fit(Snapshot.open(snapshots[0]), features, indicators=True)


@pytest.fixture(scope="module")
def saved(preprocessor: Preprocessor, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path = tmp_path_factory.mktemp("models") / "late"
    net = make_net(preprocessor)
    save_model(path, net, preprocessor, metadata={"note": "Grüße"}, activation="sigmoid")
    return path, net


@pytest.fixture
def rows(snapshots: Tables) -> dict[str, Any]:
    return Snapshot.open(snapshots[1]).to_table().select(["distance", "hour", "carrier"]).to_pydict()


def test_predictions_are_those_of_the_net(
    saved: tuple[Path, Any], preprocessor: Preprocessor, rows: Any
) -> None:
    path, net = saved
    inputs = preprocessor.transform(rows)
    logits = net(mx.np.array(inputs["numeric"]), mx.np.array(inputs["categorical"])).asnumpy()
    expected = 1 / (1 + np.exp(-logits.astype(np.float64).reshape(-1)))
    model = load_model(path)
    result = model.predict(rows)
    assert (result.dtype, result.shape) == (np.float32, (800,))
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    assert [(column.name, column.required) for column in model.signature] == [
        ("distance", True),
        ("hour", True),
        ("carrier", True),
    ]
    assert model.output_names == ("probability",)
    assert model.metadata == {"note": "Grüße"}
    assert model.digest == model_digest(path)


def test_a_row_does_not_depend_on_its_batch(saved: tuple[Path, Any], rows: Any) -> None:
    model = load_model(saved[0])
    whole = model.predict(rows)
    for size in (1, 2, 7, 8, 9, 64, 100, 511, 513):
        part = model.predict({name: values[:size] for name, values in rows.items()})
        np.testing.assert_allclose(part, whole[:size], rtol=1e-5, atol=1e-6)
    many = {name: values * 12 for name, values in rows.items()}
    np.testing.assert_allclose(model.predict(many), np.tile(whole, 12), rtol=1e-5, atol=1e-6)
    assert model.predict({name: [] for name in rows}).shape == (0,)


def test_columns_of_every_kind_give_the_same(saved: tuple[Path, Any], snapshots: Tables) -> None:
    model = load_model(saved[0])
    table = Snapshot.open(snapshots[1]).to_table()
    expected = model.predict(table)
    frame = table.to_pandas()
    for columns in (table.to_pydict(), frame, {name: frame[name].to_numpy() for name in frame}):
        np.testing.assert_array_equal(model.predict(columns), expected)


def test_missing_values_and_unknown_categories_are_answered(saved: tuple[Path, Any]) -> None:
    model = load_model(saved[0])
    unknown, null = model.predict({"distance": [None, None], "hour": [None, 0], "carrier": ["Pan Am", None]})
    assert np.isfinite([unknown, null]).all()
    same = model.predict({"distance": [float("nan")], "hour": [None], "carrier": [None]})
    assert same[0] == pytest.approx(unknown, rel=1e-5)
    assert model.warm_up().shape == (1,)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"carrier": None}, "carrier"),
        ({"hour": ["nine"]}, "hour"),
        ({"carrier": [1.5]}, "carrier"),
        ({"carrier": "UA"}, "carrier"),
        ({"hour": [1, 2]}, "hour"),
        ({"hour": np.zeros((1, 2))}, "hour"),
    ],
)
def test_a_request_that_does_not_fit_names_the_column(
    saved: tuple[Path, Any], change: dict[str, Any], field: str
) -> None:
    columns = {"distance": [100.0], "hour": [9], "carrier": ["UA"]} | change
    with pytest.raises(RequestError, match=field):
        load_model(saved[0]).predict({name: values for name, values in columns.items() if values is not None})


def test_threads_share_a_model(saved: tuple[Path, Any], rows: Any) -> None:
    model = load_model(saved[0])
    sizes = (1, 5, 60, 500)
    expected = {size: model.predict({name: values[:size] for name, values in rows.items()}) for size in sizes}
    model = load_model(saved[0])  # its plans are made by the threads
    wrong: list[int] = []

    def work(size: int) -> None:
        for _ in range(20):
            result = model.predict({name: values[:size] for name, values in rows.items()})
            if not np.array_equal(result, expected[size]):
                wrong.append(size)

    threads = [threading.Thread(target=work, args=(size,)) for size in sizes * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_same_model_gives_the_same_bytes_and_replaces_itself(
    saved: tuple[Path, Any], preprocessor: Preprocessor, tmp_path: Path
) -> None:
    path, net = saved
    for _ in range(2):
        save_model(tmp_path / "m", net, preprocessor, metadata={"note": "Grüße"}, activation="sigmoid")
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "m" / name).read_bytes() == (path / name).read_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["m"]


def test_several_outputs_are_several_columns(preprocessor: Preprocessor, tmp_path: Path, rows: Any) -> None:
    net = mx.gluon.model_zoo.mlp(preprocessor.numeric_width, preprocessor.cardinalities, outputs=3)
    net.initialize()
    save_model(tmp_path / "m", net, preprocessor, activation="softmax")
    model = load_model(tmp_path / "m")
    result = model.predict(rows)
    assert result.shape == (800, 3)
    np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-5)
    assert model.output_names == ("probability_0", "probability_1", "probability_2")


# --- damage


@pytest.fixture
def copy(saved: tuple[Path, Any], tmp_path: Path) -> Path:
    for name in ("model.json", "weights.safetensors"):
        (tmp_path / name).write_bytes((saved[0] / name).read_bytes())
    return tmp_path


def change_json(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a field of model.json as someone would who also knows how to mend its digest."""
    content = json.loads((folder / "model.json").read_text())
    change(content)
    content.pop("sha256", None)
    content["sha256"] = canonical_digest(content)
    (folder / "model.json").write_text(json.dumps(content))


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "append"])
def test_damaged_weights_are_refused_by_name(copy: Path, damage: str) -> None:
    path = copy / "weights.safetensors"
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(data[:-5])
    elif damage == "append":
        path.write_bytes(data + b"x")
    else:
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ModelFormatError, match=r"weights\.safetensors"):
        load_model(copy)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda c: c.update(format="pickle"), "'format'"),
        (lambda c: c.update(format_version=3), "'format_version'"),
        (lambda c: c.update(format_version=2), "'tensors'"),
        (lambda c: c.pop("graph"), "'graph'"),
        (lambda c: c.update(graph={}), "graph"),
        (lambda c: c.update(inputs=["numeric", "numeric"]), "'inputs'"),
        (lambda c: c.update(inputs=["images"]), "'inputs'"),
        (lambda c: c.update(parameters=c["parameters"][:-1]), "parameters"),
        (lambda c: c.update(signature=[{"name": 1}]), r"'signature\[0\]'"),
        (lambda c: c.update(preprocessing={"version": 99}), "version"),
        (lambda c: c["preprocessing"].pop("numeric"), "numeric"),
        (lambda c: c["preprocessing"]["features"]["numeric"].pop(), "numeric"),
        (lambda c: c["weights"].update(size=1), "weights"),
        (lambda c: c.update(weights=[]), "'weights'"),
        (lambda c: c.update(output_names="p"), "'output_names'"),
        (lambda c: c.update(output_names=["a", "b"]), "'graph'.*2 columns"),
        (lambda c: c["graph"]["nodes"].append(3), "'graph'"),
        (lambda c: c["graph"]["nodes"][-1].update(op="no_such_op"), "no_such_op"),
        (lambda c: c["preprocessing"]["numeric"][0].update(std="wide"), "'preprocessing'"),
    ],
)
def test_a_wrong_field_of_model_json_is_refused_by_name(
    copy: Path, change: Callable[[dict[str, Any]], None], field: str
) -> None:
    change_json(copy, change)
    with pytest.raises(ModelFormatError, match=field) as caught:
        load_model(copy)
    assert str(copy) in str(caught.value)


def test_a_flipped_byte_of_model_json_is_noticed(copy: Path) -> None:
    text = (copy / "model.json").read_text()
    (copy / "model.json").write_text(text.replace("probability", "probabilitY"))
    with pytest.raises(ModelFormatError, match="'sha256'"):
        load_model(copy)
    for broken in ("", "{", "[1]", "[" * 100_000):
        (copy / "model.json").write_text(broken)
        with pytest.raises(ModelFormatError, match=r"model\.json"):
            Model(copy)
    with pytest.raises(ModelFormatError, match=r"model\.json"):
        load_model(copy / "nowhere")


def test_a_full_disk_leaves_the_older_model(
    preprocessor: Preprocessor, small_disk: Path, saved: tuple[Path, Any]
) -> None:
    digest = save_model(small_disk / "m", saved[1], preprocessor)
    large = mx.gluon.model_zoo.mlp(
        preprocessor.numeric_width, preprocessor.cardinalities, hidden_units=[1000, 1000]
    )
    large.initialize()
    with pytest.raises(StorageError):
        save_model(small_disk / "m", large, preprocessor)
    assert load_model(small_disk / "m").digest == digest
    assert [entry.name for entry in small_disk.iterdir()] == ["m"]


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (lambda x, c: x.reshape((x.shape[0], -1)), "reshape says -1 for them"),
        (lambda x, c: x.mean(axis=0).reshape((1, -1)), "one result a row; 3 rows gave shape"),
    ],
    ids=["rows baked in", "rows summed up"],
)
def test_a_net_of_one_batch_size_is_not_published(
    net: Callable[..., Any], message: str, preprocessor: Preprocessor, tmp_path: Path
) -> None:
    class Net(mx.gluon.HybridBlock):
        def forward(self, numeric: Any, categorical: Any) -> Any:
            return net(numeric, categorical)

    block = Net()
    block.initialize()
    with pytest.raises(SpecificationError, match=message):
        save_model(tmp_path / "model", block, preprocessor)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("role", ["numeric", "categorical"])
def test_a_model_of_one_kind_of_columns_comes_back(
    role: str, snapshots: Tables, rows: Any, tmp_path: Path
) -> None:
    columns = {"numeric": ["distance", "hour"], "categorical": ["carrier"]}[role]
    preprocessor = Preprocessor.fit(Snapshot.open(snapshots[0]), FeatureSpec(**{role: columns}))
    save_model(tmp_path / "model", make_net(preprocessor), preprocessor)
    assert load_model(tmp_path / "model").predict({name: rows[name] for name in columns}).shape == (800,)
