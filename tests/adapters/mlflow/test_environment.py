"""What a saved model carries beside itself: its environment, code, further files, settings and metadata."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from mlflow.models import Model as MlflowModel

import mxpipe
import mxpipe_mlflow
from mxpipe.model import load_model


@pytest.fixture(scope="module")
def model(trained_models: Any) -> Any:
    return load_model(trained_models.first)


@pytest.fixture(scope="module")
def frame(trained_models: Any) -> pd.DataFrame:
    return pd.DataFrame(trained_models.columns)


def requirements(folder: Path) -> set[str]:
    return set((folder / "requirements.txt").read_text().split("\n"))


class TestEnvironment:
    def test_defaults_are_this_mxpipe_and_this_mlflow(self, model: Any, tmp_path: Path) -> None:
        mxpipe_mlflow.save_model(model, tmp_path / "saved")
        expected = {*mxpipe_mlflow.get_default_pip_requirements(), f"mlflow=={mlflow.__version__}"}
        assert requirements(tmp_path / "saved") == expected
        conda = yaml.safe_load((tmp_path / "saved" / "conda.yaml").read_text())
        assert set(conda["dependencies"][-1]["pip"]) == expected
        python = yaml.safe_load((tmp_path / "saved" / "python_env.yaml").read_text())
        assert python["dependencies"] == ["-r requirements.txt"]

    def test_pip_requirements_take_the_place_of_the_defaults(self, model: Any, tmp_path: Path) -> None:
        listed = tmp_path / "listed.txt"
        listed.write_text("mxpipe==9.9\ncowsay==6.1\n")
        mxpipe_mlflow.save_model(model, tmp_path / "list", pip_requirements=["mxpipe==9.9", "cowsay==6.1"])
        mxpipe_mlflow.save_model(model, tmp_path / "file", pip_requirements=str(listed))
        for name in ("list", "file"):
            assert requirements(tmp_path / name) >= {"mxpipe==9.9", "cowsay==6.1"}
            assert not requirements(tmp_path / name) & set(mxpipe_mlflow.get_default_pip_requirements())

    def test_extra_pip_requirements_join_the_defaults(self, model: Any, tmp_path: Path) -> None:
        mxpipe_mlflow.save_model(model, tmp_path / "saved", extra_pip_requirements=["cowsay==6.1"])
        defaults = set(mxpipe_mlflow.get_default_pip_requirements())
        assert requirements(tmp_path / "saved") >= {"cowsay==6.1", *defaults}

    def test_constraints_become_a_file_of_their_own(self, model: Any, tmp_path: Path) -> None:
        (tmp_path / "limits.txt").write_text("numpy<3\n")
        mxpipe_mlflow.save_model(
            model, tmp_path / "saved", extra_pip_requirements=[f"-c {tmp_path / 'limits.txt'}"]
        )
        assert (tmp_path / "saved" / "constraints.txt").read_text().split() == ["numpy<3"]
        assert "-c constraints.txt" in requirements(tmp_path / "saved")

    def test_a_conda_environment_is_taken_as_it_is(self, model: Any, tmp_path: Path) -> None:
        environment = mxpipe_mlflow.get_default_conda_env()
        (tmp_path / "env.yaml").write_text(yaml.safe_dump(environment))
        for name, given in (("object", environment), ("file", str(tmp_path / "env.yaml"))):
            mxpipe_mlflow.save_model(model, tmp_path / name, conda_env=given)
            assert yaml.safe_load((tmp_path / name / "conda.yaml").read_text()) == environment

    def test_only_one_way_to_name_requirements(self, model: Any, tmp_path: Path) -> None:
        environment = mxpipe_mlflow.get_default_conda_env()
        with pytest.raises(ValueError, match="Only one of"):
            mxpipe_mlflow.save_model(model, tmp_path / "m", conda_env=environment, pip_requirements=["a"])
        assert not (tmp_path / "m").exists()


class TestFiles:
    def test_extra_files_and_metadata(self, model: Any, tmp_path: Path) -> None:
        note = tmp_path / "note.txt"
        note.write_text("read me")
        mxpipe_mlflow.save_model(
            model, tmp_path / "saved", extra_files=[str(note)], metadata={"month": "2013-01"}
        )
        assert (tmp_path / "saved" / "extra_files" / "note.txt").read_text() == "read me"
        assert MlflowModel.load(str(tmp_path / "saved")).metadata == {"month": "2013-01"}

    @pytest.mark.slow
    def test_pyfunc_finds_the_code_and_the_native_loader_does_not_look(
        self, model: Any, tmp_path: Path
    ) -> None:
        """In a process of its own: an import path is for a whole process."""
        (tmp_path / "helper_of_a_model.py").write_text("ANSWER = 42\n")
        mxpipe_mlflow.save_model(
            model, tmp_path / "saved", code_paths=[str(tmp_path / "helper_of_a_model.py")]
        )
        (tmp_path / "helper_of_a_model.py").unlink()
        program = f"""
import importlib.util, mlflow, mxpipe_mlflow
mxpipe_mlflow.load_model({str(tmp_path / "saved")!r})
assert importlib.util.find_spec("helper_of_a_model") is None
mlflow.pyfunc.load_model({str(tmp_path / "saved")!r}, suppress_warnings=True)
import helper_of_a_model
assert helper_of_a_model.ANSWER == 42
"""
        subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


class TestModelConfig:
    def test_every_setting_has_its_effect(self, model: Any, frame: pd.DataFrame, tmp_path: Path) -> None:
        mxpipe_mlflow.save_model(model, tmp_path / "saved")

        def load(**settings: Any) -> Any:
            return mlflow.pyfunc.load_model(str(tmp_path / "saved"), model_config=settings)

        expected = model.predict(frame)
        assert load().model_config == {
            "device": "cpu",
            "threads": None,
            "precision": "float32",
            "output": "prediction",
        }
        np.testing.assert_array_equal(load().predict(frame), expected)
        rounded = load(precision="bfloat16")
        assert rounded._model_impl.get_raw_model().precision == "bfloat16"
        np.testing.assert_allclose(rounded.predict(frame), expected, atol=0.02)
        classes = load(output="class").predict(frame)
        assert classes.dtype == np.int64
        np.testing.assert_array_equal(classes, expected >= 0.5)
        before = mxpipe.get_num_threads()
        try:
            load(threads=before + 1)
            assert mxpipe.get_num_threads() == before + 1
        finally:
            mxpipe.set_num_threads(before)

    def test_what_is_saved_counts_until_the_caller_says_otherwise(
        self, model: Any, frame: pd.DataFrame, tmp_path: Path
    ) -> None:
        mxpipe_mlflow.save_model(model, tmp_path / "saved", model_config={"output": "class"})
        assert mlflow.pyfunc.load_model(str(tmp_path / "saved")).predict(frame).dtype == np.int64
        again = mlflow.pyfunc.load_model(str(tmp_path / "saved"), model_config={"output": "prediction"})
        assert again.predict(frame).dtype == np.float32

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"device": "gpu"}, "device must be 'cpu'"),
            ({"device": "cuda:0"}, "device must be 'cpu'"),
            ({"threads": 0}, "threads must be a positive integer"),
            ({"threads": "two"}, "threads must be a positive integer"),
            ({"precision": "float16"}, "precision must be one of float32, bfloat16"),
            ({"output": "logits"}, "output must be one of"),
            ({"devise": "cpu"}, "settings must be among .* got devise"),
        ],
    )
    def test_what_would_have_no_effect_is_refused(
        self, model: Any, tmp_path: Path, settings: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(MlflowException, match=message):
            mxpipe_mlflow.save_model(model, tmp_path / "refused", model_config=settings)
        assert not (tmp_path / "refused").exists()
        if "devise" in settings:
            return  # MLflow itself drops keys that the saved model does not list
        mxpipe_mlflow.save_model(model, tmp_path / "saved")
        with pytest.raises(MlflowException, match=message):
            mlflow.pyfunc.load_model(str(tmp_path / "saved"), model_config=settings)
