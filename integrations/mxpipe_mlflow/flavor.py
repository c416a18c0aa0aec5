"""The MLflow flavor: an mxpipe model folder inside an MLflow model.

What enters: a :class:`mxpipe.model.Model`, or the folder it was saved to. What leaves: an MLflow model whose
``model/`` holds that folder byte for byte (``model.json``, ``weights.safetensors``; no pickle), with a
signature of the raw feature columns or of the tensors. Called through the package:
``mxpipe_mlflow.log_model(model)``.

:func:`load_model` runs no code that a model brought along; pyfunc puts ``code_paths`` on the import path, as
MLflow's pyfunc always does.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from mlflow import pyfunc
from mlflow.models import Model as MlflowModel
from mlflow.models import ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME, ModelInfo
from mlflow.models.utils import _save_example
from mlflow.tracking._model_registry import DEFAULT_AWAIT_MAX_SLEEP_SECONDS
from mlflow.tracking.artifact_utils import _download_artifact_from_uri
from mlflow.utils.environment import (
    _CONDA_ENV_FILE_NAME,
    _CONSTRAINTS_FILE_NAME,
    _PYTHON_ENV_FILE_NAME,
    _REQUIREMENTS_FILE_NAME,
    _mlflow_conda_env,
    _process_conda_env,
    _process_pip_requirements,
    _PythonEnv,
    _validate_env_arguments,
)
from mlflow.utils.file_utils import get_total_file_size, write_to
from mlflow.utils.model_utils import (
    _copy_extra_files,
    _get_flavor_configuration,
    _validate_and_copy_code_paths,
    _validate_and_prepare_target_save_path,
)
from mlflow.utils.yaml_utils import write_yaml

import mxpipe_mlflow
from mxpipe.errors import ModelFormatError
from mxpipe.model import Model, model_digest
from mxpipe.model import load_model as load_model_folder
from mxpipe_mlflow.pyfunc import DEFAULT_MODEL_CONFIG, ModelConfig, PyfuncModel
from mxpipe_mlflow.signature import infer_signature

logger = logging.getLogger(__name__)

FLAVOR_NAME = "mxpipe"

# A constant rather than a setting read back from MLmodel: a path found in a file decides nothing.
_FOLDER = "model"


def get_default_pip_requirements() -> list[str]:
    """What a model's environment needs besides MLflow: mxpipe itself, at the version that saved it."""
    version = _own_version()
    return [f"mxpipe=={version}" if version else "mxpipe"]


def _own_version() -> str | None:
    try:
        return distribution_version("mxpipe")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return None


def get_default_conda_env() -> dict[str, Any]:
    """The same as a conda environment."""
    environment: dict[str, Any] = _mlflow_conda_env(additional_pip_deps=get_default_pip_requirements())
    return environment


def save_model(
    mxpipe_model: Model | str | Path,
    path: str | Path,
    conda_env: dict[str, Any] | str | None = None,
    code_paths: list[str] | None = None,
    mlflow_model: MlflowModel | None = None,
    signature: ModelSignature | bool | None = None,
    input_example: Any = None,
    pip_requirements: list[str] | str | None = None,
    extra_pip_requirements: list[str] | str | None = None,
    metadata: dict[str, Any] | None = None,
    extra_files: list[str] | None = None,
    model_config: Mapping[str, Any] | None = None,
) -> None:
    """Save a model as an MLflow model on the local disk.

    Args:
        mxpipe_model: The model, or the folder it was saved to.
        path: Folder to make; it must not exist or be empty.
        conda_env: Conda environment, instead of the default.
        code_paths: Python files that pyfunc loading puts on the import path.
        mlflow_model: MLflow model to add this flavor to.
        signature: None for the model's own raw columns or tensors; False for no signature.
        input_example: Rows that the model can score (pandas DataFrame, mapping of columns, array, or mapping
            of arrays); tried before saving.
        pip_requirements: Requirements, instead of the default.
        extra_pip_requirements: Requirements besides the default.
        metadata: Metadata of the MLflow model.
        extra_files: Further files to carry.
        model_config: How pyfunc loads it, unless its caller says otherwise: ``device``, ``threads``,
            ``precision``, ``output``; see :data:`mxpipe_mlflow.pyfunc.DEFAULT_MODEL_CONFIG`.

    Raises:
        ModelFormatError: The folder holds no model.
        RequestError: The input example does not fit the model's columns or tensors.
        MlflowException: A setting of ``model_config`` is not known, or would have no effect.
    """
    _validate_env_arguments(conda_env, pip_requirements, extra_pip_requirements)
    ModelConfig.from_mapping(model_config)
    model = load_model_folder(mxpipe_model) if isinstance(mxpipe_model, str | Path) else mxpipe_model
    _validate_and_prepare_target_save_path(path)
    folder = Path(path)
    code = _validate_and_copy_code_paths(code_paths, path)
    description = mlflow_model if mlflow_model is not None else MlflowModel()
    example = _save_example(description, input_example, path)
    if example is not None:
        PyfuncModel(model).predict(example.inference_data)
    if signature is None or signature is True:
        signature = infer_signature(model)
    if signature is not False:
        description.signature = signature
    if metadata is not None:
        description.metadata = metadata
    _copy_model(model, folder / _FOLDER)
    extra = _copy_extra_files(extra_files, path)
    description.add_flavor(
        FLAVOR_NAME, data=_FOLDER, mxpipe_version=_own_version(), digest=model.digest, code=code, **extra,
    )  # fmt: skip
    pyfunc.add_to_model(
        description,
        loader_module="mxpipe_mlflow",
        data=_FOLDER,
        code=code,
        conda_env=_CONDA_ENV_FILE_NAME,
        python_env=_PYTHON_ENV_FILE_NAME,
        model_config=dict(DEFAULT_MODEL_CONFIG) | dict(model_config or {}),
    )
    if size := get_total_file_size(path):
        description.model_size_bytes = size
    description.save(str(folder / MLMODEL_FILE_NAME))
    _write_environment(folder, conda_env, pip_requirements, extra_pip_requirements)


def _copy_model(model: Model, target: Path) -> None:
    shutil.copytree(model.path, target)
    if model_digest(target) != model.digest:
        raise ModelFormatError(
            f"[{model.path}] must still hold the model that was loaded from it; it was replaced."
        )


def _write_environment(
    folder: Path, conda_env: Any, pip_requirements: Any, extra_pip_requirements: Any
) -> None:
    if conda_env is None:
        # MLflow would infer requirements by importing the model in a new process, which takes seconds and can
        # find nothing more: a model folder holds a graph and numbers, so that it needs mxpipe alone.
        default = None if pip_requirements is not None else get_default_pip_requirements()
        conda_env, pip_requirements, constraints = _process_pip_requirements(
            default, pip_requirements, extra_pip_requirements
        )
    else:
        conda_env, pip_requirements, constraints = _process_conda_env(conda_env)
    write_yaml(str(folder), _CONDA_ENV_FILE_NAME, conda_env)
    if constraints:
        write_to(str(folder / _CONSTRAINTS_FILE_NAME), "\n".join(constraints))
    write_to(str(folder / _REQUIREMENTS_FILE_NAME), "\n".join(pip_requirements))
    _PythonEnv.current().to_yaml(str(folder / _PYTHON_ENV_FILE_NAME))


def log_model(
    mxpipe_model: Model | str | Path,
    artifact_path: str | None = None,
    conda_env: dict[str, Any] | str | None = None,
    code_paths: list[str] | None = None,
    registered_model_name: str | None = None,
    signature: ModelSignature | bool | None = None,
    input_example: Any = None,
    await_registration_for: int = DEFAULT_AWAIT_MAX_SLEEP_SECONDS,
    pip_requirements: list[str] | str | None = None,
    extra_pip_requirements: list[str] | str | None = None,
    metadata: dict[str, Any] | None = None,
    extra_files: list[str] | None = None,
    name: str | None = None,
    params: dict[str, Any] | None = None,
    tags: dict[str, Any] | None = None,
    model_type: str | None = None,
    step: int = 0,
    model_id: str | None = None,
    run_id: str | None = None,
    model_config: Mapping[str, Any] | None = None,
) -> ModelInfo:
    """Log a model to the active run, or to ``run_id``; arguments as of :func:`save_model` and ``Model.log``.

    Returns:
        MLflow's description of the logged model; ``.model_uri`` is what a registry takes.
    """
    return MlflowModel.log(
        artifact_path=artifact_path,
        name=name,
        flavor=mxpipe_mlflow,
        mxpipe_model=mxpipe_model,
        conda_env=conda_env,
        code_paths=code_paths,
        registered_model_name=registered_model_name,
        signature=signature,
        input_example=input_example,
        await_registration_for=await_registration_for,
        pip_requirements=pip_requirements,
        extra_pip_requirements=extra_pip_requirements,
        metadata=metadata,
        extra_files=extra_files,
        params=params,
        tags=tags,
        model_type=model_type,
        step=step,
        model_id=model_id,
        run_id=run_id,
        model_config=model_config,
    )


def load_model(model_uri: str, dst_path: str | None = None, precision: str | None = None) -> Model:
    """Load an mxpipe model from an MLflow model; nothing that the model brought along is run.

    Args:
        model_uri: ``models:/name@alias``, ``models:/m-...``, ``runs:/...`` or a path.
        dst_path: Folder to download to.
        precision: "float32" or "bfloat16"; None takes what ``mxpipe.amp.init`` chose.

    Raises:
        ModelFormatError: The folder cannot be read.
        MlflowException: There is no such model, or it lacks this flavor.
    """
    local = _download_artifact_from_uri(artifact_uri=model_uri, output_path=dst_path)
    folder = model_folder(local)
    _warn_of_another_version(folder.parent)
    return load_model_folder(folder, precision)


def model_folder(local: str | Path) -> Path:
    """The mxpipe model folder inside a local MLflow model.

    Raises:
        MlflowException: It is another flavor's model.
    """
    _get_flavor_configuration(model_path=str(local), flavor_name=FLAVOR_NAME)
    return Path(local, _FOLDER)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PyfuncModel:
    """Called by MLflow with the ``data`` folder of a model, and its settings as far as it passes them on."""
    configuration = ModelConfig.from_mapping(model_config)
    _warn_of_another_version(Path(path).parent)
    return PyfuncModel.load(path, configuration)


def _warn_of_another_version(local: Path) -> None:
    """Say so when a model was saved by another version: its predictions may differ in their last bits."""
    description = local / MLMODEL_FILE_NAME
    flavors = MlflowModel.load(str(description)).flavors if description.exists() else {}
    saved = flavors.get(FLAVOR_NAME, {}).get("mxpipe_version")
    installed = _own_version()
    if saved and installed and saved != installed:
        logger.warning("[%s] was saved by mxpipe %s and is loaded by %s", local, saved, installed)
