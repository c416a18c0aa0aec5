"""What a person sees in Airflow's pages: the connection form, a training at work, the links."""

from __future__ import annotations

import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root directory of the connection that is typed into the form."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def conn_id() -> str:
    """The connection that is made with the form."""
    return f"from_the_form_{uuid.uuid4().hex[:6]}"


def test_the_connection_form(
    page: Any, api: Any, standalone: Any, screenshot: Any, place: Path, conn_id: str
) -> None:
    """Filled in, saved, and read back: by the form, by the API, and by the hook's own test."""
    given = {"root": str(place), "tracking_uri": standalone.mlflow_url}
    page.set_viewport_size({"width": 1100, "height": 1330})
    page.goto("/connections")
    page.get_by_role("button", name="Add Connection").first.click()
    form = page.get_by_role("dialog")
    form.get_by_role("combobox").first.fill("mxpipe")
    form.get_by_role("combobox").first.press("Enter")
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    form.get_by_role("spinbutton").first.fill("1")
    form.get_by_role("spinbutton").first.press("Tab")
    fill_in(form, "mxpipe_default", {"root": "/var/lib/mxpipe", "tracking_uri": "http://mlflow:5000"})
    screenshot(page, "connection")
    fill_in(form, conn_id, given)
    form.get_by_role("button", name="Save").click()
    form.wait_for(state="hidden")

    stored = json.loads(api.call("GET", f"/connections/{conn_id}")["extra"])
    assert {name: value for name, value in stored.items() if value not in (None, "")} == given | {
        "threads": 1,
        "launcher": "local",
    }
    body = {"connection_id": conn_id, "conn_type": "mxpipe", "extra": json.dumps(stored)}
    assert api.call("POST", "/connections/test", body)["status"] is True

    row = page.get_by_role("row").filter(has_text=conn_id)
    row.get_by_role("button", name=re.compile("edit", re.IGNORECASE)).click()
    form.get_by_role("button", name="Extra Fields", exact=True).click()
    for name, value in given.items():
        assert form.locator(f"input[name=element_{name}]").input_value() == value
    assert form.get_by_role("spinbutton").first.input_value() == "1"


def fill_in(form: Any, conn_id: str, given: dict[str, str]) -> None:
    """Type a name and text fields into the form."""
    form.locator("input[name=connection_id]").fill(conn_id)
    for name, value in given.items():
        form.locator(f"input[name=element_{name}]").fill(value)


def test_a_training_shows_its_progress_and_its_links(
    page: Any, api: Any, standalone: Any, screenshot: Any, place: Path, conn_id: str
) -> None:
    """While it is deferred, its log has percent, rows a second and the time left; then the links lead on."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
    from disturbance import Training, write_rows

    from mxpipe_mlflow import registry

    snapshot = write_rows(place / "rows")
    training = Training(conn_id, standalone, api, place, standalone.mlflow_url, place)
    training.start(snapshot, pace=0.05)
    training.wait(states=("deferred",))
    run = f"/dags/retraining/runs/{training.run_ids[0]}/tasks"
    page.goto(f"{run}/train")
    line = page.get_by_text(re.compile(r"RUNNING +\d+% +step \d+/400 +[\d,]+ rows/s +\d+:\d\d left"))
    line.first.wait_for()
    assert training.task()["state"] == "deferred"
    screenshot(page, "training")

    assert training.wait() == "success"
    (logged,) = training.runs()
    assert follow(page, f"{run}/train", "MLflow run").endswith(logged.info.run_id)
    screenshot(page, "links")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="MLflow run").click()
    opened.value.get_by_text("Finished").first.wait_for()
    opened.value.close()

    assert training.wait("register") == "success"
    version = f"{standalone.mlflow_url}/#/models/{conn_id}/versions/1"
    assert follow(page, f"{run}/register", "Model version") == version
    registry.promote(conn_id, "1", None, tracking_uri=standalone.mlflow_url)
    api.trigger("deployment", conn_id, {"conn_id": conn_id, "model": conn_id})
    assert api.wait("deployment", conn_id, "deploy") == "success"
    server = follow(page, f"/dags/deployment/runs/{conn_id}/tasks/deploy", "Server")
    assert page.request.get(server).json()["name"]


def follow(page: Any, task: str, link: str) -> str:
    """Where an extra link of a task leads, as its page has it."""
    page.goto(f"{task}/details")
    found = page.get_by_role("link", name=link)
    found.wait_for()
    return str(found.get_attribute("href"))
