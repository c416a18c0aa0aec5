"""A DAG with one task of every operator and sensor of the provider."""

import importlib
import inspect

from airflow.sdk import DAG, AssetWatcher, task

from mxpipe_airflow.assets.mxpipe import model_asset, monitor_asset
from mxpipe_airflow.get_provider_info import get_provider_info
from mxpipe_airflow.notifications.gate import MxpipeGateNotifier
from mxpipe_airflow.triggers.drift import MxpipeDriftTrigger
from mxpipe_airflow.triggers.model import MxpipeModelVersionTrigger


def classes(kind):
    """The operators, or sensors, that the provider lists."""
    for group in get_provider_info()[kind]:
        for name in group["python-modules"]:
            for member in vars(importlib.import_module(name)).values():
                is_ours = inspect.isclass(member) and member.__module__ == name
                if is_ours and hasattr(member, "execute") and not inspect.isabstract(member):
                    yield member


def arguments(operator):
    """A template for each argument that must be given."""
    given = {}
    for base in operator.__mro__:
        if base.__module__.startswith("mxpipe_airflow."):
            for p in inspect.signature(base.__init__).parameters.values():
                is_fixed = base is not operator and p.name not in operator.template_fields
                if p.kind is p.KEYWORD_ONLY and p.default is p.empty and not is_fixed:
                    given[p.name] = "{{ run_id }}"
    return given


moved = model_asset("every", "champion")
moved.watchers.append(AssetWatcher("moved", MxpipeModelVersionTrigger("every", "champion")))
drift = monitor_asset("every")
drift.watchers.append(AssetWatcher("drift", MxpipeDriftTrigger("every")))

with DAG("every_operator", schedule=moved | drift) as dag:
    for kind in ("operators", "sensors"):
        for operator in classes(kind):
            operator(
                task_id=operator.__name__,
                on_success_callback=MxpipeGateNotifier(path="/dev/null"),
                outlets=[model_asset("every", "candidate")],
                **arguments(operator),
            )

    @task.mxpipe_train(partition="2013-01")
    def decorated_train():
        return {}

    @task.mxpipe_evaluate(label_column="late")
    def decorated_evaluate(trained):
        return {}

    decorated_evaluate(decorated_train())
