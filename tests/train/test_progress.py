"""Progress for people, on a terminal and in a log."""

from __future__ import annotations

import io

import pytest

from mxpipe.progress import ProgressReporter, Rate, format_duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_plain_lines_at_intervals_and_the_last() -> None:
    log = io.StringIO()
    with ProgressReporter(100, "training", log, interval=1000.0) as progress:
        for step in range(1, 101):
            progress.update(step, f"loss {1 / step:.2f}")
    assert log.getvalue() == "training   1% 1/100 steps, loss 1.00\ntraining 100% 100/100 steps, loss 0.01\n"


def test_what_was_interrupted_still_shows_where_it_came_to() -> None:
    log = io.StringIO()
    with ProgressReporter(100, "training", log, interval=1000.0) as progress:
        for step in (1, 2, 3):
            progress.update(step)
    assert log.getvalue().splitlines()[-1] == "training   3% 3/100 steps"


def test_a_terminal_gets_one_line_that_redraws_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    terminal = Terminal()
    with ProgressReporter(2, "training", terminal) as progress:
        progress.update(1, "x" * 100)
        progress.update(2, "done")
    drawn = terminal.getvalue().split("\r\x1b[K")
    assert drawn[-2].startswith(f"training {'━' * 4}{'─' * 4}  50% 1/2 steps  xxx")
    assert drawn[-1] == f"training {'━' * 24} 100% 2/2 steps  done\n"
    assert all(len(line.rstrip("\n")) < 60 for line in drawn)


def test_the_rate_leaves_the_first_step_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 104.0, 104.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    rate = Rate(step=10, total_steps=20)
    assert (rate.rows_per_second, rate.eta_seconds) == (None, None)
    rate.update(11, rows=64)
    assert (rate.rows_per_second, rate.eta_seconds) == (None, None)
    rate.update(13, rows=128)
    assert rate.rows_per_second == 32.0
    assert rate.eta_seconds == 14.0


def test_durations() -> None:
    assert [format_duration(seconds) for seconds in (0.4, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]
