"""The dependency engine: order, errors, shutdown, fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mxpipe._native import DependencyEngine
from mxpipe.errors import MxpipeError, OperatorError, StorageError


def test_writers_keep_their_order_and_readers_see_the_write_before_them():
    engine = DependencyEngine(4)
    value = engine.variable()
    log: list[str] = []
    seen: list[list[str]] = []

    def write(step: int) -> None:
        time.sleep(0.001 * (step % 3))
        log.append(f"w{step}")

    for step in range(20):
        engine.push(lambda step=step: write(step), [], [value], f"write {step}")
        for _ in range(3):
            engine.push(lambda: seen.append(list(log)), [value], [], "read")
    engine.wait_all()
    assert log == [f"w{step}" for step in range(20)]
    assert sorted(len(entry) for entry in seen) == [step + 1 for step in range(20) for _ in range(3)]


def test_independent_tasks_overlap():
    engine = DependencyEngine(2)
    meeting = threading.Barrier(2, timeout=10)  # passes only when both tasks run at once
    for _ in range(2):
        engine.push(meeting.wait, [], [engine.variable()], "meeting")
    engine.wait_all()


def test_one_thread_starts_ready_tasks_in_the_order_of_their_push():
    engine = DependencyEngine(1)
    gate = threading.Event()
    log: list[int] = []
    engine.push(gate.wait, [], [], "gate")
    for step in range(50):
        engine.push(lambda step=step: log.append(step), [], [engine.variable()], "step")
    gate.set()
    engine.wait_all()
    assert log == list(range(50))


def test_error_surfaces_at_the_next_wait_with_the_place_that_pushed_it():
    engine = DependencyEngine(2)
    bad, good = engine.variable(), engine.variable()

    def fail() -> None:
        raise StorageError("the disk is full")

    engine.push(fail, [], [bad], "checkpoint of step 7")
    engine.push(lambda: None, [], [good], "elsewhere")
    engine.wait(good)  # not concerned
    with pytest.raises(StorageError, match="the disk is full") as caught:
        engine.wait(bad)
    assert any("checkpoint of step 7" in note for note in caught.value.__notes__)
    engine.wait(bad)  # raised once, then clear
    engine.wait_all()


def test_tasks_that_depend_on_a_failure_are_skipped_and_pass_it_on():
    engine = DependencyEngine(2)
    source, result = engine.variable(), engine.variable()
    ran: list[str] = []
    engine.push(lambda: 1 / 0, [], [source], "the division")
    engine.push(lambda: ran.append("dependent"), [source], [result], "the dependent")
    with pytest.raises(ZeroDivisionError) as caught:
        engine.wait(result)
    assert ran == []
    assert any("the division" in note for note in caught.value.__notes__)
    with pytest.raises(ZeroDivisionError):
        engine.wait(source)  # what was written by the failed task is not fine either
    engine.push(lambda: ran.append("afterwards"), [source], [result], "afterwards")
    engine.wait(result)
    assert ran == ["afterwards"]


def test_wait_all_raises_each_failure_in_the_order_of_the_pushes():
    engine = DependencyEngine(2)
    for name in ("first", "second"):
        engine.push(lambda name=name: {}[name], [], [engine.variable()], name)
    for name in ("first", "second"):
        with pytest.raises(KeyError, match=name):
            engine.wait_all()
    engine.wait_all()


def test_misuse_is_refused():
    engine, other = DependencyEngine(1), DependencyEngine(1)
    with pytest.raises(OperatorError, match="threads must be at least 1; got 0"):
        DependencyEngine(0)
    with pytest.raises(OperatorError, match="variables must come from the engine"):
        engine.push(lambda: None, [], [other.variable()], "here")
    inner = engine.variable()
    engine.push(engine.wait_all, [], [inner], "a task that waits")
    with pytest.raises(OperatorError, match="must not wait for its own engine"):
        engine.wait(inner)
    engine.close()
    with pytest.raises(OperatorError, match="before the engine is closed"):
        engine.push(lambda: None, [], [], "too late")


def test_close_finishes_what_was_pushed():
    engine = DependencyEngine(1)
    log: list[int] = []
    for step in range(10):
        engine.push(lambda step=step: (time.sleep(0.002), log.append(step)), [], [], "step")
    engine.close()
    assert log == list(range(10))


def test_an_engine_may_be_dropped_by_its_own_task():
    log: list[str] = []
    engine = DependencyEngine(1)
    holder = [engine]
    engine.push(lambda: (time.sleep(0.05), holder.clear(), log.append("dropped")), [], [], "drop")
    del engine
    deadline = time.monotonic() + 10
    while not log and time.monotonic() < deadline:
        time.sleep(0.01)
    assert log == ["dropped"]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_exit_of_the_interpreter_finishes_tasks_and_reports_lost_errors():
    result = run_python(
        "import time\n"
        "from mxpipe._native import DependencyEngine\n"
        "engine = DependencyEngine(2)\n"
        "last = engine.variable()\n"
        "write = lambda: (time.sleep(0.2), print('written', flush=True))\n"
        "engine.push(write, [], [last], 'the last checkpoint')\n"
        "engine.push(lambda: 1 / 0, [], [engine.variable()], 'a lost task')\n"
    )
    assert result.returncode == 0
    assert result.stdout == "written\n"
    assert "ZeroDivisionError" in result.stderr
    assert "a lost task" in result.stderr


def test_ctrl_c_ends_a_wait():
    code = (
        "import time, sys\n"
        "from mxpipe._native import DependencyEngine\n"
        "engine = DependencyEngine(1)\n"
        "slow = engine.variable()\n"
        "engine.push(lambda: time.sleep(1.5), [], [slow], 'slow')\n"
        "try:\n"
        "    print('waiting', flush=True)\n"
        "    engine.wait(slow)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
    assert process.returncode == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_afresh_and_is_told_about_abandoned_tasks():
    engine = DependencyEngine(1)
    pending, release = engine.variable(), threading.Event()
    engine.push(release.wait, [], [pending], "the parent's task")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                engine.wait(pending)
            except MxpipeError as error:
                log: list[int] = []
                fresh = engine.variable()
                engine.push(lambda: log.append(1), [], [fresh], "in the child")
                engine.wait(fresh)
                status = 0 if "the parent's task" in str(error) and log == [1] else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    release.set()
    engine.wait(pending)  # the parent's engine is as it was
