"""Drift events: once a window, cooled down by the data's time, whole whoever is killed."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from datetime import timedelta
from pathlib import Path

import pytest

from mxpipe.errors import DataError
from mxpipe.monitor import DriftEvent, EventLog, Outcome


def event(day: int, month: int = 2, name: str | None = None) -> DriftEvent:
    """An event of the week that ends on a day of 2013."""
    end = f"2013-{month:02d}-{day:02d}T00:00:00+00:00"
    return DriftEvent("late", name or f"until-{month:02d}-{day:02d}", end, end, 6000, ("temp: PSI 0.4",))


def windows(log: EventLog) -> list[str]:
    return [found.window for found in log.read()[0]]


def test_a_window_has_one_event_however_often_it_is_looked_at(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "monitors" / "late" / "events.jsonl")
    assert log.read() == ([], 0)
    assert log.append(event(7)) is Outcome.APPENDED
    again = dataclasses.replace(event(7), rows=1, reasons=())
    assert log.append(again) is Outcome.PRESENT
    assert log.find("until-02-07") == event(7)
    assert log.find("until-02-14") is None


@pytest.mark.parametrize(
    ("order", "kept"),
    [
        ([7, 14, 21, 28], [7, 21]),  # as time goes on
        ([28, 21, 14, 7], [28, 14]),  # a backfill, or a clock that has jumped back
        ([7, 7, 14], [7]),
    ],
)
def test_the_cool_down_counts_between_windows(tmp_path: Path, order: list[int], kept: list[int]) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for day in order:
        log.append(event(day), cool_down=timedelta(days=10))
    assert windows(log) == [f"until-02-{day:02d}" for day in kept]
    # Its own event does not cool a window down.
    assert log.append(event(kept[0]), cool_down=timedelta(days=10)) is Outcome.PRESENT


def test_a_torn_line_is_no_event_and_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    log.append(event(7))
    whole, offset = log.read()
    line = json.dumps(event(14).to_json()).encode()
    with open(path, "ab") as file:
        file.write(line[: len(line) // 2])
    assert log.read() == (whole, offset)
    assert log.append(event(14)) is Outcome.APPENDED
    assert windows(log) == ["until-02-07", "until-02-14"]
    assert [found.window for found in log.read(offset)[0]] == ["until-02-14"]


def test_a_replaced_shorter_file_is_read_from_its_start(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for day in (7, 14):
        log.append(event(day))
    offset = log.read()[1]
    log.path.unlink()
    log.append(event(21))
    assert [found.window for found in log.read(offset)[0]] == ["until-02-21"]


def append_all(path: Path) -> None:
    for day in range(1, 29):
        EventLog(path).append(event(day))


def test_processes_that_race_append_each_window_once(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_all, args=(path,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(windows(EventLog(path))) == sorted(f"until-02-{day:02d}" for day in range(1, 29))


def test_what_is_no_event_is_refused_or_left_out(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    with pytest.raises(DataError, match="ISO 8601"):
        log.append(dataclasses.replace(event(7), end="last week"))
    log.path.write_text('{"event": "note"}\n[1]\n{"event": "drift", "monitor": "late"}\n')
    assert log.read()[0] == []
    later = event(7).to_json() | {"severity": "a field of a later version"}
    assert DriftEvent.from_json(later) == event(7)
