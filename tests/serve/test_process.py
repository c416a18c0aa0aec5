"""Server processes: started once, found again, swapped without a lost request, ended in order."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mxpipe.errors import ServingError
from mxpipe.model import model_digest
from mxpipe.serve import process
from mxpipe.serve.process import ServerHandle
from mxpipe.serve.state import ServerState, process_ticks


def post(url: str, body: Any) -> httpx.Response:
    return httpx.post(url, json=body, trust_env=False, timeout=30.0)


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_second_start_finds_the_first_server(trained_models: Any, state_file: Path) -> None:
    first = process.start(model=trained_models.first, state_file=state_file)
    assert process.start(model=trained_models.first, state_file=state_file) == first
    assert process.find(state_file) == first == ServerHandle.from_json(first.to_json())
    assert process.stop(state_file) is True
    assert process.stop(state_file) is False
    assert process.find(state_file) is None
    assert not state_file.exists()


def test_a_replaced_folder_is_swapped_in_under_load(
    trained_models: Any, state_file: Path, model_copy: Callable[[Path], Path], infer_body: dict[str, Any]
) -> None:
    """No request is lost or answered by half of each version."""
    from mxpipe.model import load_model

    first = process.start(model=model_copy(trained_models.first), state_file=state_file)
    answers: list[httpx.Response] = []
    stop = threading.Event()

    def ask() -> None:
        with httpx.Client(trust_env=False, timeout=30.0) as client:
            while not stop.is_set():
                answers.append(client.post(first.infer_url, json=infer_body))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(answers) >= 10)
    second = process.start(model=model_copy(trained_models.second), state_file=state_file)
    swapped = len(answers)
    wait_until(lambda: len(answers) >= swapped + 10)
    stop.set()
    for thread in threads:
        thread.join()

    assert (second.pid, second.url) == (first.pid, first.url)
    assert second.version != first.version
    predictions = {
        handle.version: load_model(path).predict(trained_models.columns).tolist()
        for handle, path in ((first, trained_models.first), (second, trained_models.second))
    }
    assert {answer.status_code for answer in answers} == {200}
    bodies = [answer.json() for answer in answers]
    assert {body["model_version"] for body in bodies} == {first.version, second.version}
    for body in bodies:
        served = np.array(body["outputs"][0]["data"], np.float32).tolist()
        assert served == predictions[body["model_version"]]


def test_a_server_that_polls_finds_a_new_version_by_itself(
    trained_models: Any, state_file: Path, model_copy: Callable[[Path], Path]
) -> None:
    """While the folder is being replaced there is none: the old version keeps answering."""
    folder = model_copy(trained_models.first)
    first = process.start(model=folder, state_file=state_file, arguments=["--poll-seconds=0.1"])
    shutil.rmtree(folder)
    time.sleep(0.3)
    assert process.find(state_file) == first
    model_copy(trained_models.second)
    wait_until(lambda: (found := process.find(state_file)) is not None and found.version != first.version)
    current = process.find(state_file)
    assert current is not None
    assert (current.pid, current.digest) == (first.pid, model_digest(trained_models.second))


def test_a_damaged_new_version_leaves_the_old_one_answering(
    trained_models: Any, state_file: Path, model_copy: Callable[[Path], Path], infer_body: dict[str, Any]
) -> None:
    folder = model_copy(trained_models.first)
    first = process.start(model=folder, state_file=state_file)
    model_copy(trained_models.second)
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ServingError, match=r"weights\.safetensors.*truncated"):
        process.start(model=folder, state_file=state_file)
    assert post(first.infer_url, infer_body).json()["model_version"] == first.version


def test_a_damaged_model_does_not_start(
    trained_models: Any, state_file: Path, model_copy: Callable[[Path], Path]
) -> None:
    folder = model_copy(trained_models.first)
    (folder / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ServingError, match=r"weights\.safetensors"):
        process.start(model=folder, state_file=state_file)
    assert not state_file.exists()
    with pytest.raises(ServingError, match=r"nowhere.*must be readable"):
        process.start(model=folder.parent / "nowhere", state_file=state_file)


def test_another_model_and_a_killed_server_keep_the_port(trained_models: Any, state_file: Path) -> None:
    first = process.start(model=trained_models.first, state_file=state_file)
    second = process.start(model=trained_models.second, state_file=state_file)
    assert second.pid != first.pid
    assert second.url == first.url
    assert process_ticks(first.pid) is None
    os.kill(second.pid, signal.SIGKILL)
    third = process.start(model=trained_models.second, state_file=state_file)
    assert third.pid != second.pid
    assert (third.url, third.version) == (second.url, second.version)


@pytest.mark.slow
def test_a_server_that_hangs_is_replaced(trained_models: Any, state_file: Path) -> None:
    first = process.start(model=trained_models.first, state_file=state_file)
    os.kill(first.pid, signal.SIGSTOP)
    second = process.start(model=trained_models.first, state_file=state_file)
    assert second.pid != first.pid
    assert process_ticks(first.pid) is None


def test_a_process_id_used_again_is_not_taken_for_the_server(tmp_path: Path) -> None:
    path = tmp_path / "server.json"
    pid = os.getpid()
    state = ServerState(pid, process_ticks(pid) or 0, "127.0.0.1", 1, "late", "/models/late", "1", "ab")
    assert state.is_alive()
    ServerState(pid, 1, "127.0.0.1", 1, "late", "/models/late", "1", "ab").write(path)
    assert process.find(path) is None
    assert process.stop(path) is False  # above all: it did not end this process
    path.write_text("{")
    assert process.find(path) is None


def test_sigterm_lets_a_request_end(trained_models: Any, tmp_path: Path) -> None:
    state_path = tmp_path / "server.json"
    command = [sys.executable, "-m", "mxpipe.serve", f"--model={trained_models.first}", "--port=0"]
    server = subprocess.Popen([*command, f"--state-file={state_path}"], stderr=subprocess.PIPE)
    try:
        process._wait_ready(state_path, server.pid, time.monotonic() + 60, tmp_path / "none")
        state = ServerState.read(state_path)
        assert state is not None
        rows = 150_000
        body = {"inputs": {"distance": [1.0] * rows, "hour": [7] * rows, "carrier": ["UA"] * rows}}
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(post(f"{state.url}/invocations", body)))
        asking.start()
        wait_until(lambda: "in_flight 1" in httpx.get(f"{state.url}/metrics", trust_env=False).text)
        server.terminate()
        asking.join()
        assert server.wait(timeout=30) == 0
    finally:
        server.kill()
        server.communicate()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["predictions"]) == rows
    assert not state_path.exists()


def test_a_port_in_use_is_an_error(trained_models: Any, state_file: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServingError, match=f"127.0.0.1:{port} must be free"):
            process.start(model=trained_models.first, state_file=state_file, port=port)


def test_what_to_serve_must_be_one_thing(trained_models: Any, state_file: Path) -> None:
    with pytest.raises(ServingError, match="exactly one of model and registry_model"):
        process.start(state_file=state_file)
    with pytest.raises(ServingError, match="must be an installed resolver"):
        process.start(registry_model="late@champion", registry="nowhere", state_file=state_file)
    with pytest.raises(ServingError, match="must read name@alias"):
        process.start(registry_model="late", registry="mlflow", state_file=state_file)
