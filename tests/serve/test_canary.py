"""Two versions behind one endpoint, over real sockets: who answers, what is measured, what survives."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mxpipe.errors import RequestError, ServingError
from mxpipe.model import load_model, model_digest
from mxpipe.monitor import MonitorDirectory, Window
from mxpipe.serve import client, process
from mxpipe.serve.process import ServerHandle
from mxpipe.serve.split import bucket_of_id, buckets

EVER = Window("ever", datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@dataclass
class Served:
    """A server over the first model, with the second one as a candidate and a monitor."""

    handle: ServerHandle
    first: str
    second: str
    models: dict[str, Any]
    monitor: MonitorDirectory
    restart: Callable[[], ServerHandle]

    def ask(self, columns: dict[str, list[Any]], **headers: str) -> list[float]:
        url = self.handle.invocations_url
        answer = httpx.post(url, json={"inputs": columns}, headers=headers, trust_env=False, timeout=30.0)
        assert answer.status_code == 200, answer.text
        predictions: list[float] = answer.json()["predictions"]
        return predictions

    def set(self, **split: Any) -> dict[str, Any]:
        return client.write_split(self.handle.url, "late", split)

    def report(self) -> dict[str, Any]:
        return client.read_split(self.handle.url, "late")


@pytest.fixture(scope="module")
def served(trained_models: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("canary")
    state_file, monitor = folder / "server.json", folder / "monitors" / "late"
    arguments = [f"--candidate={trained_models.second}", f"--monitor={monitor}", "--monitor-write=0.2"]

    def start() -> ServerHandle:
        return process.start(
            model=trained_models.first, name="late", state_file=state_file, arguments=arguments
        )

    models = {
        model_digest(path)[:12]: load_model(path) for path in (trained_models.first, trained_models.second)
    }
    first, second = models
    yield Served(start(), first, second, models, MonitorDirectory(monitor), start)
    process.stop(state_file)


@pytest.fixture(autouse=True)
def no_split(served: Served) -> None:
    served.set()


def rows(count: int, seed: int = 0) -> dict[str, list[Any]]:
    random = np.random.default_rng(seed)
    return {
        "distance": random.gamma(2.0, 500.0, count).tolist(),
        "hour": random.integers(5, 24, count).tolist(),
        "carrier": random.choice(["UA", "DL", "AA", "B6", "EV"], count).tolist(),
    }


def expected(served: Served, columns: dict[str, list[Any]], share: float) -> list[float]:
    """What each row's version gives."""
    ours, theirs = (served.models[version].predict(columns) for version in (served.first, served.second))
    count = len(columns["hour"])
    return np.where(buckets(columns, count) < share, theirs, ours).tolist()


def test_each_row_goes_to_its_version_alone_and_in_a_batch(served: Served) -> None:
    columns = rows(200)
    served.set(canary=served.second, share=0.3)
    want = expected(served, columns, 0.3)
    assert served.ask(columns) == pytest.approx(want, abs=1e-6)
    for row in range(20):
        alone = served.ask({name: values[row : row + 1] for name, values in columns.items()})
        assert alone == pytest.approx(want[row : row + 1], abs=1e-6)
    measured = served.report()["versions"]
    assert 0.2 < measured[served.second]["rows"] / 220 < 0.4
    assert measured[served.first]["rows"] + measured[served.second]["rows"] == 220
    assert measured[served.second]["seconds"]["quantiles"]["0.99"] > 0
    # All and nothing.
    for share, version in ((1.0, served.second), (0.0, served.first)):
        served.set(canary=served.second, share=share)
        assert served.ask(columns) == pytest.approx(
            served.models[version].predict(columns).tolist(), abs=1e-6
        )


def test_a_request_with_an_id_goes_to_one_version_as_a_whole(served: Served, infer_body: Any) -> None:
    served.set(canary=served.second, share=0.5)
    for number in range(12):
        name = f"request-{number}"
        version = served.second if bucket_of_id(name) < 0.5 else served.first
        answer = httpx.post(served.handle.infer_url, json=infer_body | {"id": name}, trust_env=False).json()
        assert (answer["model_version"], answer["id"]) == (version, name)
        columns = rows(5, seed=number)
        got = served.ask(columns, **{"X-Request-Id": name})
        assert got == pytest.approx(served.models[version].predict(columns).tolist(), abs=1e-6)


def test_a_route_may_name_the_canary(served: Served, infer_body: Any) -> None:
    root = f"{served.handle.url}/v2/models/late/versions"
    url = f"{root}/{served.second}/infer"
    assert httpx.post(url, json=infer_body, trust_env=False).status_code == 404
    served.set(canary=served.second, share=0.0)
    assert httpx.post(url, json=infer_body, trust_env=False).json()["model_version"] == served.second
    assert httpx.get(f"{root}/{served.second}/ready", trust_env=False).status_code == 200
    assert httpx.get(f"{root}/another/ready", trust_env=False).status_code == 503


def test_a_shadow_is_compared_and_never_answers(served: Served) -> None:
    served.set(shadow=served.second)
    columns = rows(50)
    ours, theirs = (served.models[version].predict(columns) for version in (served.first, served.second))
    assert served.ask(columns) == pytest.approx(ours.tolist(), abs=1e-6)
    deadline = time.monotonic() + 30
    while (found := served.report()["versions"].get(served.second, {})).get("shadow_difference") is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert found["shadow_difference"]["count"] == 50
    assert found["shadow_difference"]["mean"] == pytest.approx(float(np.abs(ours - theirs).mean()), abs=1e-6)


def test_metrics_tell_the_versions_apart(served: Served) -> None:
    served.set(canary=served.second, share=0.5)
    served.ask(rows(100))
    text = httpx.get(f"{served.handle.url}/metrics", trust_env=False).text
    for version in (served.first, served.second):
        assert f'mxpipe_version_requests_total{{version="{version}"}}' in text
        assert f'mxpipe_version_seconds_bucket{{version="{version}",le="+Inf"}}' in text
        assert f'mxpipe_version_prediction{{version="{version}",quantile="0.5"}}' in text
    assert "mxpipe_monitor_dropped_rows 0" in text


def test_what_cannot_be_split_is_refused_and_changes_nothing(served: Served, infer_body: Any) -> None:
    served.set(canary=served.second, share=0.25)
    with pytest.raises(ServingError, match="must hold 'never'"):
        served.set(canary="never", share=0.5)
    with pytest.raises(RequestError, match="share must be from 0 to 1"):
        served.set(canary=served.second, share=2)
    assert served.report()["split"] == {"canary": served.second, "share": 0.25, "shadow": None}
    assert (
        httpx.put(f"{served.handle.url}/v2/models/other/split", json={}, trust_env=False).status_code == 404
    )


def wait_for_split(served: Served, split: dict[str, Any], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while served.report()["split"] != split:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_split_that_nobody_renews_goes_back(served: Served) -> None:
    kept = {"canary": served.second, "share": 0.1, "shadow": None}
    served.set(**kept)
    more = kept | {"share": 0.6}
    assert served.set(**more, lease_seconds=2.0)["before"] == kept
    served.ask(rows(20))
    for _ in range(4):
        time.sleep(0.2)
        assert served.set(**more, lease_seconds=2.0)["before"] == kept
    report = served.report()
    assert (report["split"], report["before"]) == (more, kept)
    assert sum(item["rows"] for item in report["versions"].values()) == 20, "renewing measures on"
    wait_for_split(served, kept)
    # Set once more without a lease, it stays.
    served.set(**more, lease_seconds=0.5)
    served.set(**more)
    time.sleep(0.7)
    assert served.report()["split"] == more
    with pytest.raises(RequestError, match="lease_seconds must be above 0"):
        served.set(**kept, lease_seconds=0)


def test_no_request_is_lost_while_the_split_changes(served: Served) -> None:
    columns = rows(8)
    answers = {version: served.models[version].predict(columns) for version in (served.first, served.second)}
    statuses: list[int] = []
    wrong: list[Any] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=30.0) as session:
            while not stop.is_set():
                answer = session.post(served.handle.invocations_url, json={"inputs": columns})
                statuses.append(answer.status_code)
                got = np.array(answer.json()["predictions"], np.float32)
                either = [np.abs(got - want) < 1e-6 for want in answers.values()]
                if not np.logical_or(*either).all():
                    wrong.append(got)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for change in range(30):
        canary = {"canary": served.second, "share": (change % 5) / 4}
        served.set(**(canary if change % 3 else {}))
    enough = time.monotonic() + 30
    while len(statuses) < 60 and time.monotonic() < enough:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    assert len(statuses) >= 60
    assert set(statuses) == {200}
    assert wrong == []


def test_a_split_survives_a_kill_and_the_statistics_too(served: Served) -> None:
    """Last: it gives the module's server another process."""
    served.set(canary=served.second, share=0.5)
    columns = rows(100, seed=77)
    want = served.ask(columns, **{"X-Request-Id": "kept"})
    deadline = time.monotonic() + 30
    while not {key for key in _kept(served) if key.startswith("kept")}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(served.handle.pid, signal.SIGKILL)
    before = served.handle
    served.handle = served.restart()
    assert (served.handle.url, served.handle.pid != before.pid) == (before.url, True)
    assert served.report()["split"] == {"canary": served.second, "share": 0.5, "shadow": None}
    assert served.ask(columns, **{"X-Request-Id": "kept"}) == pytest.approx(want, abs=1e-6)
    kept = _kept(served)
    assert [kept[f"kept/{row}"][0] for row in range(100)] == pytest.approx(want, abs=1e-6)
    found = [served.monitor.collect(version, EVER) for version in (served.first, served.second)]
    for statistics in found:
        assert statistics is not None
        carriers = {value for value, _ in statistics.inputs["carrier"].categories or ()}
        assert {"UA", "DL", "AA", "B6", "EV"} <= carriers


def test_a_lease_runs_out_on_the_server_that_takes_over(served: Served) -> None:
    served.set(canary=served.second, share=0.9, lease_seconds=2)
    os.kill(served.handle.pid, signal.SIGKILL)
    served.handle = served.restart()
    wait_for_split(served, {"canary": None, "share": 0.0, "shadow": None})
    assert served.report()["before"] is None


def _kept(served: Served) -> dict[str, list[float]]:
    both = (served.monitor.predictions(version, EVER) for version in (served.first, served.second))
    return {key: row for found in both for key, row in found.items()}


def test_the_state_file_of_the_split_lies_beside_the_server(served: Served) -> None:
    served.set(canary=served.second, share=0.5)
    assert Path(served.handle.state_file).with_suffix(".split.json").exists()
