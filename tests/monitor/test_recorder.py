"""Counting beside requests: nothing is counted twice, nothing is waited for, and a kill loses an interval."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mxpipe.errors import SpecificationError, StorageError
from mxpipe.model import Model
from mxpipe.monitor import MonitorDirectory, RecorderSettings, StatisticsRecorder, Window

EVER = Window("ever", datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
HOUR = 3600


@pytest.fixture
def directory(tmp_path: Path) -> MonitorDirectory:
    return MonitorDirectory(tmp_path / "monitors" / "late")


def hour(number: int) -> Window:
    start = datetime.fromtimestamp(number * HOUR, UTC)
    return Window(f"hour-{number}", start, start + timedelta(hours=1))


def test_requests_of_many_threads_are_each_counted_once(
    model: Model, flights: Callable[..., Any], directory: MonitorDirectory
) -> None:
    recorder = StatisticsRecorder(directory)
    columns = flights(3)
    predictions = model.predict(columns)

    def ask() -> None:
        for _ in range(100):
            assert recorder.record("1", model, columns, predictions)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert (recorder.recorded, recorder.dropped) == (1200, 0)
    found = directory.collect("1", EVER)
    assert found is not None
    assert (found.rows, found.dropped) == (1200, 0)
    assert dict(found.inputs["carrier"].categories or ()) == {
        name: 400 * columns["carrier"].count(name) for name in set(columns["carrier"])
    }
    assert found.predictions["probability"].mean == pytest.approx(float(predictions.mean()))


def test_what_is_too_much_is_left_out_and_counted(
    model: Model, flights: Callable[..., Any], directory: MonitorDirectory
) -> None:
    recorder = StatisticsRecorder(directory, RecorderSettings(pending_rows=10))
    columns = flights(4)
    predictions = model.predict(columns)
    with recorder._lock:  # the thread that counts is held up, as by a slow disk
        recorder._pending_rows = 8
    counted = [recorder.record("1", model, columns, predictions) for _ in range(5)]
    recorder.close()
    found = directory.collect("1", EVER)
    assert found is not None
    assert found.rows + found.dropped == 20
    assert found.rows == 4 * sum(counted)
    assert recorder.dropped == found.dropped > 0


def test_windows_and_a_clock_that_jumps_back(
    model: Model, flights: Callable[..., Any], directory: MonitorDirectory
) -> None:
    now = [10.5 * HOUR]
    recorder = StatisticsRecorder(directory, clock=lambda: now[0])
    columns = flights(2)
    predictions = model.predict(columns)
    for number in (10, 11, 10, 11, 12):
        now[0] = (number + 0.5) * HOUR
        recorder.record("1", model, columns, predictions)
        recorder.flush()
    recorder.close()
    rows = {}
    for number in (9, 10, 11, 12):
        found = directory.collect("1", hour(number))
        rows[number] = found.rows if found else 0
    assert rows == {9: 0, 10: 4, 11: 4, 12: 2}


def test_predictions_with_an_id_wait_for_their_labels(
    model: Model, flights: Callable[..., Any], directory: MonitorDirectory
) -> None:
    recorder = StatisticsRecorder(directory)
    one, three = flights(1), flights(3)
    recorder.record("1", model, one, model.predict(one), "a")
    recorder.record("1", model, three, model.predict(three), "b")
    recorder.record("1", model, three, model.predict(three))
    recorder.close()
    kept = directory.predictions("1", EVER)
    assert list(kept) == ["a", "b/0", "b/1", "b/2"]
    assert kept["b/1"] == pytest.approx([float(model.predict(three)[1])])


def test_a_full_disk_stops_no_counting(
    model: Model, flights: Callable[..., Any], directory: MonitorDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = StatisticsRecorder(directory, RecorderSettings(write_seconds=0.01))
    columns = flights(2)
    predictions = model.predict(columns)
    write = directory.write

    def refuse(*arguments: Any) -> Any:
        raise StorageError("[monitor] the disk is full")

    monkeypatch.setattr(directory, "write", refuse)
    recorder.record("1", model, columns, predictions)
    deadline = time.monotonic() + 60
    while not recorder.failed_writes:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert directory.collect("1", EVER) is None
    monkeypatch.setattr(directory, "write", write)
    recorder.record("1", model, columns, predictions)
    recorder.close()
    found = directory.collect("1", EVER)
    assert found is not None
    assert found.rows == 4


KILLED = """
import sys, time
import numpy as np
from mxpipe.model import load_model
from mxpipe.monitor import MonitorDirectory, RecorderSettings, StatisticsRecorder

model = load_model(sys.argv[1])
recorder = StatisticsRecorder(MonitorDirectory(sys.argv[2]), RecorderSettings(write_seconds=0.1))
columns = {"distance": np.array([500.0]), "hour": np.array([8]), "carrier": ["UA"]}
predictions = model.predict(columns)
while True:
    recorder.record("1", model, columns, predictions, "id")
    print(recorder.recorded, flush=True)
    time.sleep(0.001)
"""


def test_a_killed_server_loses_no_more_than_an_interval(model: Model, directory: MonitorDirectory) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(model.path), str(directory.path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    written = 0
    for line in server.stdout:
        if int(line) > 500:
            found = directory.collect("1", EVER)
            written = found.rows if found else 0
            if written:
                break
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    server.stdout.close()
    found = directory.collect("1", EVER)
    assert found is not None
    assert found.rows >= written
    assert found.inputs["carrier"].categories == (("UA", found.rows),)
    # The one that takes its place has files of its own.
    recorder = StatisticsRecorder(directory)
    columns = {"distance": np.array([500.0]), "hour": np.array([8]), "carrier": ["DL"]}
    recorder.record("1", model, columns, model.predict(columns))
    recorder.close()
    both = directory.collect("1", EVER)
    assert both is not None
    assert both.rows == found.rows + 1
    assert directory.versions() == ["1"]
    assert directory.remove_before(datetime(2100, 1, 1, tzinfo=UTC)) >= 3
    assert directory.collect("1", EVER) is None


def test_a_damaged_file_is_left_out(
    model: Model, flights: Callable[..., Any], directory: MonitorDirectory
) -> None:
    recorder = StatisticsRecorder(directory)
    columns = flights(2)
    recorder.record("v/1", model, columns, model.predict(columns))
    recorder.close()
    (path,) = directory.path.glob("statistics/*/*.json")
    path.with_name(path.name.replace(path.name.split("-")[1], "other")).write_text('{"statistics": {')
    found = directory.collect("v/1", EVER)
    assert found is not None
    assert found.rows == 2
    assert directory.versions() == ["v/1"]


def test_names_that_could_leave_the_directory_are_refused() -> None:
    for name in ("", "../x", ".hidden", "a/b", "x" * 200):
        with pytest.raises(SpecificationError, match="an id must be"):
            Window.of(name, "2013-02-11", "2013-02-18")
    with pytest.raises(SpecificationError, match="must end after"):
        Window.of("w", "2013-02-18", "2013-02-18")
