"""What Airflow sees of the provider: it is discovered, its parts load, its form and fields are whole."""

from __future__ import annotations

import http.server
import importlib
import inspect
import json
import pkgutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mxpipe_airflow

KINDS = ("hooks", "operators", "sensors", "triggers")
# Callables and import names of code, how to wait, what decides which code runs: none of them varies by run.
NOT_TEMPLATED = {
    *("sources", "dataframe", "table", "builders", "callback", "rows_of", "task", "endpoint"),
    *("deferrable", "timeout", "poll_interval", "progress_interval"),
}


@pytest.fixture(scope="module")
def info() -> dict[str, Any]:
    from mxpipe_airflow.get_provider_info import get_provider_info

    return get_provider_info()


@pytest.fixture(scope="module")
def manager(airflow_database: None) -> Any:
    """Airflow's own, over what is installed."""
    from airflow.providers_manager import ProvidersManager

    found = ProvidersManager()
    assert "mxpipe" in found.providers
    return found


def operators() -> Iterator[type[Any]]:
    """All operators and sensors, the abstract ones left out."""
    from mxpipe_airflow.operators.base import MxpipeOperator
    from mxpipe_airflow.sensors.base import MxpipeSensor

    for kind in ("operators", "sensors"):
        folder = Path(mxpipe_airflow.__file__).parent / kind
        for module in pkgutil.iter_modules([str(folder)]):
            for member in vars(importlib.import_module(f"mxpipe_airflow.{kind}.{module.name}")).values():
                is_ours = isinstance(member, type) and issubclass(member, MxpipeOperator | MxpipeSensor)
                if is_ours and not inspect.isabstract(member) and member.__module__.endswith(module.name):
                    yield member


def arguments(operator: type[Any]) -> set[str]:
    """What an operator takes by name beside what every Airflow operator takes.

    What a base templates and the operator does not, the operator has fixed.
    """
    from airflow.sdk import BaseOperator

    found: set[str] = set()
    for base in operator.__mro__:
        if base.__module__.startswith("mxpipe_airflow."):
            parameters = inspect.signature(base.__init__).parameters.values()
            names = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
            found |= names if base is operator else names - set(base.template_fields)
            found |= names & set(operator.template_fields)
    return found - set(inspect.signature(BaseOperator.__init__).parameters)


def test_the_description_follows_airflows_schema(info: dict[str, Any]) -> None:
    import airflow
    import jsonschema

    schema = json.loads(Path(airflow.__file__).with_name("provider_info.schema.json").read_text())
    jsonschema.validate(info, schema)


def test_every_module_is_listed_and_can_be_imported(info: dict[str, Any]) -> None:
    for kind in KINDS:
        folder = Path(mxpipe_airflow.__file__).parent / kind
        public = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
        listed = [module for group in info[kind] for module in group["python-modules"]]
        assert {module.rpartition(".")[2] for module in listed} == public
        for module in listed:
            importlib.import_module(module)


def test_airflow_loads_the_connection_type(manager: Any) -> None:
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook, MxpipeSettings

    assert dict(manager.hooks)["mxpipe"].hook_class_name == "mxpipe_airflow.hooks.mxpipe.MxpipeHook"
    prefix = "extra__mxpipe__"
    form = {name: field for name, field in manager.connection_form_widgets.items() if prefix in name}
    known = inspect.signature(MxpipeSettings).parameters
    assert {name.removeprefix(prefix) for name in form} == set(known), "the form has what the hook takes"
    for field in form.values():
        assert field.field["schema"]["title"]
        assert field.field["description"]
        assert "null" in field.field["schema"]["type"], "each field may be left empty"
    behaviour = manager.field_behaviours["mxpipe"]
    assert {"login", "password", "host", "port", "schema"} <= set(behaviour["hidden_fields"])
    assert behaviour["placeholders"]["extra__mxpipe__root"]
    assert MxpipeHook.conn_type == "mxpipe"


def test_airflow_loads_links_notifications_decorators_and_triggers(manager: Any) -> None:
    from airflow.sdk import task

    assert {name for name in manager.extra_links_class_names if "mxpipe" in name} == {
        f"mxpipe_airflow.links.mxpipe.{link}"
        for link in ("MlflowRunLink", "ModelVersionLink", "ReportLink", "ServerLink")
    }
    assert "mxpipe_airflow.notifications.gate.MxpipeGateNotifier" in [
        entry if isinstance(entry, str) else entry.notification_class_name for entry in manager.notification
    ]
    assert {"mxpipe_train", "mxpipe_evaluate"} <= {name for name, _ in manager.taskflow_decorators.items()}
    assert callable(task.mxpipe_train)
    assert callable(task.mxpipe_evaluate)
    assert "mxpipe_airflow.triggers.job" in {
        trigger.trigger_class_name.removesuffix(".MxpipeJobTrigger") for trigger in manager.trigger
    }


def test_template_fields_are_complete_and_stored_as_they_are_given() -> None:
    """Airflow renders attributes: each is an argument, kept untouched, and all that may vary are there."""
    found = list(operators())
    assert len(found) >= 15
    for kind in found:
        given = {name: object() for name in arguments(kind) - {"conn_id"}}
        operator = kind(task_id="one", **given)
        fields = set(kind.template_fields)
        for name in fields - {"conn_id"}:
            assert getattr(operator, name) is given[name], f"{kind.__name__}.{name} must only be stored"
        assert set(given) - fields <= NOT_TEMPLATED, f"{kind.__name__} must template what can vary"
        assert "conn_id" in fields


def test_triggers_are_made_again_from_what_they_serialize() -> None:
    from airflow.sdk._shared.module_loading import import_string

    from mxpipe_airflow.triggers.drift import MxpipeDriftTrigger
    from mxpipe_airflow.triggers.job import MxpipeJobTrigger
    from mxpipe_airflow.triggers.model import MxpipeModelVersionTrigger

    for trigger in (
        MxpipeJobTrigger("/jobs", "a", 1.0, 2.0, 3.0, "local", {"x": 1}, {"tracking_uri": None}),
        MxpipeModelVersionTrigger("flights", "champion", "there", 1.0, "3"),
        MxpipeDriftTrigger("flights", "there", 1.0, "2013-02-01", 17),
    ):
        path, arguments = trigger.serialize()
        assert path == f"{type(trigger).__module__}.{type(trigger).__name__}"
        assert set(arguments) == set(inspect.signature(type(trigger)).parameters)
        assert import_string(path)(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


def connect(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> Any:
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook

    monkeypatch.setenv("AIRFLOW_CONN_THERE", json.dumps({"conn_type": "mxpipe", "extra": extra}))
    return MxpipeHook("there")


def test_a_connection_says_where_things_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mxpipe.errors import SpecificationError
    from mxpipe.jobs import LocalLauncher
    from mxpipe_airflow.hooks.mxpipe import MxpipeHook

    hook = connect(monkeypatch, root=str(tmp_path), threads="2", tracking_uri="", launcher_arguments="{}")
    assert (hook.settings.root, hook.settings.threads, hook.settings.tracking_uri) == (tmp_path, 2, None)
    launcher = hook.get_conn()
    assert isinstance(launcher, LocalLauncher)
    assert launcher.root == tmp_path / "jobs"
    assert hook.test_connection() == (True, f"{tmp_path} can be written")
    for extra, words in (
        ({"rooot": "x"}, "rooot"),
        ({"threads": 0}, "threads"),
        ({"threads": "many"}, "threads"),
        ({"launcher_arguments": "[1]"}, "launcher_arguments"),
    ):
        with pytest.raises(SpecificationError, match=words):
            _ = connect(monkeypatch, **extra).settings
        works, message = connect(monkeypatch, **extra).test_connection()
        assert not works
        assert words in message
    with pytest.raises(SpecificationError, match="'nowhere' must be defined"):
        _ = MxpipeHook("nowhere").settings


def test_a_launcher_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hook = connect(monkeypatch, root=str(tmp_path), launcher="kubernetes")
    works, message = hook.test_connection()
    assert not works
    assert "'kubernetes' must be installed" in message
    works, message = connect(
        monkeypatch, root=str(tmp_path), launcher_arguments={"queue": "nightly"}
    ).test_connection()
    assert not works
    assert "queue" in message


def test_the_connection_test_asks_the_tracking_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        hook = connect(monkeypatch, root=str(tmp_path), tracking_uri=url.replace("//", "//user:secret@"))
        assert hook.test_connection() == (True, f"{tmp_path} can be written, and {url} answers")
        server.shutdown()
    works, message = hook.test_connection()
    assert not works
    assert "must answer" in message
    assert "secret" not in message


def test_a_manifest_that_is_too_large_for_xcom_is_refused() -> None:
    from mxpipe.errors import SpecificationError
    from mxpipe_airflow.operators.base import checked

    with pytest.raises(SpecificationError, match="at most 8192 bytes"):
        checked({"text": "x" * 9000})
    with pytest.raises(SpecificationError, match="plain JSON"):
        checked({"loss": float("nan")})
