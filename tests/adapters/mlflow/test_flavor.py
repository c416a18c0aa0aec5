"""The flavor: what is saved can be loaded natively and by pyfunc, with a signature, and never as a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel

import mxpipe_mlflow
from mxpipe.errors import ModelFormatError, RequestError
from mxpipe.model import load_model


@pytest.fixture(scope="module")
def model(trained_models: Any) -> Any:
    return load_model(trained_models.first)


@pytest.fixture(scope="module")
def frame(trained_models: Any) -> pd.DataFrame:
    return pd.DataFrame(trained_models.columns)


@pytest.fixture(scope="module")
def expected(model: Any, trained_models: Any) -> np.ndarray[Any, Any]:
    return model.predict(trained_models.columns)


def test_native_and_pyfunc_give_the_same_bits(
    model: Any, frame: pd.DataFrame, expected: Any, tmp_path: Path
) -> None:
    mxpipe_mlflow.save_model(model, tmp_path / "saved")
    native = mxpipe_mlflow.load_model(str(tmp_path / "saved"))
    np.testing.assert_array_equal(native.predict(frame), expected)
    assert native.digest == model.digest
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    np.testing.assert_array_equal(pyfunc.predict(frame), expected)
    assert pyfunc.unwrap_python_model is not None
    assert pyfunc._model_impl.get_raw_model().digest == model.digest


def test_the_files_are_the_model_folder_and_no_pickle(trained_models: Any, tmp_path: Path) -> None:
    mxpipe_mlflow.save_model(trained_models.first, tmp_path / "saved")
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "saved" / "model" / name).read_bytes() == (
            trained_models.first / name
        ).read_bytes()
    assert not [path for path in (tmp_path / "saved").rglob("*") if path.suffix in (".pkl", ".pickle", ".pt")]


def test_loads_where_mlflow_may_run_no_code_of_a_model(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "trap.py"
    code.write_text("raise SystemExit('code of a model was run')")
    mxpipe_mlflow.save_model(model, tmp_path / "saved", code_paths=[str(code)])
    monkeypatch.setenv("MLFLOW_ALLOW_MODEL_CODE_EXECUTION", "false")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    assert mxpipe_mlflow.load_model(str(tmp_path / "saved")).digest == model.digest
    monkeypatch.delenv("MLFLOW_ALLOW_MODEL_CODE_EXECUTION")  # later versions refuse any pyfunc under it
    mxpipe_mlflow.save_model(model, tmp_path / "plain")
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "plain"))
    assert pyfunc._model_impl.get_raw_model().digest == model.digest


def test_signature_comes_from_the_raw_columns(model: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
    mxpipe_mlflow.save_model(model, tmp_path / "saved", input_example=frame)
    saved = MlflowModel.load(str(tmp_path / "saved"))
    assert saved.signature is not None
    inputs = {column.name: column.type.name for column in saved.signature.inputs}
    assert inputs == {"distance": "double", "hour": "long", "carrier": "string"}
    assert saved.signature.outputs.to_dict() == [{"type": "float", "required": True}]
    assert saved.load_input_example(str(tmp_path / "saved")).shape == (3, 3)


@pytest.mark.parametrize("signature", [None, False])
@pytest.mark.parametrize("with_example", [False, True])
def test_signature_and_example_are_independent(
    model: Any, frame: pd.DataFrame, tmp_path: Path, signature: Any, with_example: bool
) -> None:
    example = frame if with_example else None
    mxpipe_mlflow.save_model(model, tmp_path / "saved", signature=signature, input_example=example)
    saved = MlflowModel.load(str(tmp_path / "saved"))
    assert (saved.signature is None) == (signature is False)
    assert (saved.saved_input_example_info is None) == (not with_example)


def test_an_example_that_does_not_fit_is_refused_at_once(model: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"hour|carrier"):
        mxpipe_mlflow.save_model(model, tmp_path / "saved", input_example=pd.DataFrame({"distance": [1.0]}))


def test_serving_example_can_be_scored(
    model: Any, frame: pd.DataFrame, expected: Any, tmp_path: Path
) -> None:
    from mxpipe.serve.columns import Signature
    from mxpipe.serve.invocations import parse_json

    mxpipe_mlflow.save_model(model, tmp_path / "saved", input_example=frame)
    request = json.loads((tmp_path / "saved" / "serving_input_example.json").read_text())
    columns = parse_json(request, Signature.of(model))
    np.testing.assert_array_equal(model.predict(columns), expected)


def test_pyfunc_enforces_the_signature_and_takes_no_parameters(model: Any, tmp_path: Path) -> None:
    mxpipe_mlflow.save_model(model, tmp_path / "saved")
    pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"))
    with pytest.raises(MlflowException, match="carrier"):
        pyfunc.predict(pd.DataFrame({"distance": [1.0], "hour": [1]}))
    with pytest.raises(MlflowException, match="takes no parameters"):
        mxpipe_mlflow.PyfuncModel(model).predict({}, params={"threshold": 0.5})


def test_frames_of_every_pandas_kind_are_read(model: Any, frame: pd.DataFrame, expected: Any) -> None:
    wrapper = mxpipe_mlflow.PyfuncModel(model)
    kinds = [
        frame.astype({"carrier": "category"}),
        frame.astype({"carrier": object}),
        frame.convert_dtypes(),
        frame.to_dict("records"),
        frame.to_dict("list"),
    ]
    for data in kinds:
        np.testing.assert_array_equal(wrapper.predict(data), expected)


def test_a_folder_that_is_taken_or_no_model_is_an_error(
    model: Any, trained_models: Any, tmp_path: Path
) -> None:
    with pytest.raises(MlflowException, match="already exists"):
        mxpipe_mlflow.save_model(model, trained_models.first)
    with pytest.raises(ModelFormatError, match=r"model\.json"):
        mxpipe_mlflow.save_model(tmp_path, tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize("registers", [False, True])
def test_log_model_with_and_without_registration(
    model: Any,
    frame: pd.DataFrame,
    expected: Any,
    tracking_uri: str,
    name: str,
    work: Path,
    registers: bool,
) -> None:
    mlflow.set_experiment(name)
    with mlflow.start_run() as run:
        info = mxpipe_mlflow.log_model(
            model,
            name="model",
            input_example=frame,
            registered_model_name=name if registers else None,
            metadata={"month": "2013-01"},
            params={"seed": 1},
            tags={"by": "test"},
            model_type="classifier",
        )
    assert info.registered_model_version == (1 if registers else None)
    assert info.signature is not None
    assert "mxpipe" in info.flavors
    uris = [info.model_uri, f"runs:/{run.info.run_id}/model"] + [f"models:/{name}/1"] * registers
    for uri in uris:
        np.testing.assert_array_equal(mxpipe_mlflow.load_model(uri).predict(frame), expected)
    logged = mlflow.get_logged_model(info.model_id)
    assert (logged.params, logged.tags["by"], logged.model_type) == ({"seed": "1"}, "test", "classifier")
    assert bool(mlflow.MlflowClient().search_registered_models(f"name = '{name}'")) is registers


def test_a_model_downloads_to_where_it_is_told(
    model: Any, frame: pd.DataFrame, expected: Any, tracking_uri: str, name: str, work: Path
) -> None:
    mlflow.set_experiment(name)
    with mlflow.start_run():
        info = mxpipe_mlflow.log_model(model, name="model")
    (work / "here").mkdir()
    loaded = mxpipe_mlflow.load_model(info.model_uri, dst_path=str(work / "here"))
    assert work / "here" in loaded.path.parents
    np.testing.assert_array_equal(loaded.predict(frame), expected)
    with pytest.raises(MlflowException, match=r"not found|No such"):
        mxpipe_mlflow.load_model("models:/m-00000000000000000000000000000000")


class TestVersions:
    OLDER = Path(__file__).parent / "layouts" / "0.1.0"

    def test_a_folder_that_the_first_release_saved_still_loads(self) -> None:
        """It was saved when there was no ``model_config`` and only format 1."""
        example = MlflowModel.load(str(self.OLDER)).load_input_example(str(self.OLDER))
        expected = np.array([0.501358687877655, 0.501275360584259], np.float32)
        native = mxpipe_mlflow.load_model(str(self.OLDER))
        np.testing.assert_allclose(native.predict(example), expected, rtol=1e-6)
        pyfunc = mlflow.pyfunc.load_model(str(self.OLDER), suppress_warnings=True)
        np.testing.assert_allclose(pyfunc.predict(example), expected, rtol=1e-6)

    def test_fields_that_older_mlflow_did_not_write_are_not_needed(
        self, model: Any, frame: pd.DataFrame, expected: Any, tmp_path: Path
    ) -> None:
        mxpipe_mlflow.save_model(model, tmp_path / "saved")
        description = tmp_path / "saved" / "MLmodel"
        content = yaml.safe_load(description.read_text())
        flavors = content["flavors"]
        older = {
            "flavors": {
                "mxpipe": {"data": "model"},
                "python_function": {
                    name: flavors["python_function"][name]
                    for name in ("data", "loader_module", "python_version")
                }
                | {"env": "conda.yaml"},
            },
            "signature": content["signature"],
        }
        description.write_text(yaml.safe_dump(older))
        for path in (tmp_path / "saved").iterdir():
            if path.name not in ("MLmodel", "model", "conda.yaml"):
                path.unlink()
        np.testing.assert_array_equal(
            mxpipe_mlflow.load_model(str(tmp_path / "saved")).predict(frame), expected
        )
        pyfunc = mlflow.pyfunc.load_model(str(tmp_path / "saved"), suppress_warnings=True)
        np.testing.assert_array_equal(pyfunc.predict(frame), expected)

    def test_another_version_is_warned_of(
        self, model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        mxpipe_mlflow.save_model(model, tmp_path / "saved")
        for load in (mxpipe_mlflow.load_model, mlflow.pyfunc.load_model):
            load(str(tmp_path / "saved"))
        assert "was saved by mxpipe" not in caplog.text
        description = tmp_path / "saved" / "MLmodel"
        content = yaml.safe_load(description.read_text())
        content["flavors"]["mxpipe"]["mxpipe_version"] = "0.0.9"
        description.write_text(yaml.safe_dump(content))
        for load in (mxpipe_mlflow.load_model, mlflow.pyfunc.load_model):
            caplog.clear()
            load(str(tmp_path / "saved"))
            assert "was saved by mxpipe 0.0.9" in caplog.text
