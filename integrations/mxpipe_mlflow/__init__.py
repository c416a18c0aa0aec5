"""MLflow for mxpipe: the flavor, metrics that survive an outage, a registry that a retry cannot confuse.

===============  ===================================================================================
``flavor``       save, log and load models; this package itself is the flavor (``mxpipe_mlflow.log_model``)
``pyfunc``       a model behind MLflow's generic interface, and its settings (``model_config``)
``signature``    MLflow's signature of a model's columns or tensors
``autologging``  ``mxpipe_mlflow.autolog()``: every training of a process, without further calls
``tracking``     :class:`MlflowCallback` for :func:`mxpipe.train.fit`
``spool``        what the callback queues on disk; ``sender`` sends it; ``settlement`` ends what a kill left
``parents``      a run above others, such as a search above its trials
``registry``     register once for a key, move an alias with a check, roll back
``references``   what the registry refers to, which pruning leaves alone
``resolver``     the registry behind ``mxpipe serve --models-from-registry``
``deployments``  ``mlflow deployments ... -t mxpipe``: models served on this machine
``webhook``      a receiver of alias moves that has the server swap at once
``context``      tags of the Airflow task on every run it starts
``lineage``      the snapshots of a training; ``dataset`` and ``dataset_source`` show them to MLflow
===============  ===================================================================================

MLflow takes seconds to import, so that this module loads the flavor on first use and the others import MLflow
where they need it: training starts without waiting for it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mxpipe_mlflow.autologging import autolog
    from mxpipe_mlflow.flavor import (
        FLAVOR_NAME,
        _load_pyfunc,
        get_default_conda_env,
        get_default_pip_requirements,
        load_model,
        log_model,
        save_model,
    )
    from mxpipe_mlflow.pyfunc import PyfuncModel
    from mxpipe_mlflow.signature import infer_signature

__all__ = [
    "FLAVOR_NAME",
    "PyfuncModel",
    "_load_pyfunc",
    "autolog",
    "get_default_conda_env",
    "get_default_pip_requirements",
    "infer_signature",
    "load_model",
    "log_model",
    "save_model",
]

_ELSEWHERE = {
    "PyfuncModel": "pyfunc",
    "autolog": "autologging",
    "infer_signature": "signature",
}  # all others are in the flavor


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"mxpipe_mlflow.{_ELSEWHERE.get(name, 'flavor')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
