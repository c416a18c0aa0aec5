"""What Airflow sees of the provider: it is discovered, its parts load, its DAG parses without weight."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
HEAVY = ("pyspark", "mlflow", "pandas", "pyarrow", "sklearn", "matplotlib", "scipy")


@pytest.mark.usefixtures("airflow_database")
def test_airflow_discovers_the_provider() -> None:
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert "mxpipe" in manager.providers
    hook = manager.hooks["mxpipe"]
    assert hook is not None
    assert hook.hook_class_name == "mxpipe_airflow.hooks.mxpipe.MxpipeHook"
    fields = {name for name in manager.connection_form_widgets if name.startswith("extra__mxpipe__")}
    assert fields == {
        f"extra__mxpipe__{name}"
        for name in ("root", "tracking_uri", "mlflow_url", "threads", "launcher", "launcher_arguments")
    }


def test_every_module_that_the_provider_names_can_be_imported() -> None:
    import importlib

    from mxpipe_airflow.get_provider_info import get_provider_info

    info = get_provider_info()
    for kind in ("hooks", "operators", "triggers"):
        for group in info[kind]:
            for module in group["python-modules"]:
                importlib.import_module(module)


def test_parsing_the_dag_imports_nothing_heavy() -> None:
    script = (
        "import sys, json; sys.path.insert(0, 'dags'); import flight_delays\n"
        "dag = flight_delays.dag\n"
        f"print(json.dumps([sorted(dag.task_dict), [m for m in {HEAVY!r} if m in sys.modules]]))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    tasks, heavy = json.loads(run.stdout.splitlines()[-1])
    assert heavy == []
    assert {"resolve_champion", "ingest", "validate", "split", "train", "evaluate", "gate"} <= set(tasks)
    assert {"register", "promote", "deploy", "check_server", "report"} <= set(tasks)


def test_template_fields_are_stored_as_they_are_given() -> None:
    """Airflow renders attributes of the same name: each template field is an argument, kept untouched."""
    import inspect

    from mxpipe_airflow.operators import champion, data, evaluate, ingest, registry, serve, train
    from mxpipe_airflow.operators.base import MxpipeOperator

    found = []
    for module in (champion, data, evaluate, ingest, registry, serve, train):
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, MxpipeOperator) and kind is not MxpipeOperator:
                bases = kind.__mro__[: kind.__mro__.index(MxpipeOperator) + 1]
                arguments = {name for base in bases for name in inspect.signature(base.__init__).parameters}
                assert {*kind.template_fields} <= arguments, kind
                found.append(kind.__name__)
    assert len(set(found)) == 13


def test_a_connection_says_where_things_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mxpipe.errors import SpecificationError
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook

    monkeypatch.setenv(
        "AIRFLOW_CONN_THERE", json.dumps({"conn_type": "mxpipe", "extra": {"root": str(tmp_path)}})
    )
    hook = MxpipeHook("there")
    assert hook.settings.root == tmp_path
    assert hook.test_connection() == (True, f"{tmp_path} can be written")
    monkeypatch.setenv("AIRFLOW_CONN_THERE", json.dumps({"conn_type": "mxpipe", "extra": {"rooot": "x"}}))
    with pytest.raises(SpecificationError, match="rooot"):
        _ = MxpipeHook("there").settings
    assert MxpipeHook("there").test_connection()[0] is False


def test_a_manifest_that_is_too_large_for_xcom_is_refused() -> None:
    from mxpipe_airflow.operators.base import checked

    with pytest.raises(ValueError, match="at most 8192 bytes"):
        checked({"text": "x" * 9000})
