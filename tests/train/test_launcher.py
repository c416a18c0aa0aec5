"""The local launcher with real processes: one job a key, none left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mxpipe.errors import JobNotFoundError, MissingExtraError, SpecificationError
from mxpipe.jobs import JobHandle, JobState, LocalLauncher, get_launcher, job_id_of, register_launcher
from mxpipe.jobs.process import TOKEN_VARIABLE, ProcessIdentity, end_processes
from mxpipe.train import RunDirectory, TrainSpec, read_events

MakeSpec = Callable[..., TrainSpec]
LONG = {"epochs": 100_000, "checkpoint": {"every_steps": None, "every_seconds": 0.2}}


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[LocalLauncher]:
    """A launcher whose jobs are ended with the test."""
    launcher = LocalLauncher(tmp_path / "runs")
    yield launcher
    for job_id, _ in launcher.list():
        launcher.cancel(job_id, timeout=0.0)


def process_of(handle: JobHandle) -> ProcessIdentity:
    identity = ProcessIdentity.from_json(RunDirectory(handle.run_directory).read_process())
    assert identity is not None
    return identity


def wait_for_step(launcher: LocalLauncher, handle: JobHandle, step: int = 1) -> None:
    deadline = time.monotonic() + 60
    while launcher.poll(handle.id).step < step:
        assert time.monotonic() < deadline, launcher.logs(handle.id)[0]
        assert launcher.poll(handle.id).state.is_active, launcher.logs(handle.id)[0]
        time.sleep(0.02)


def attempts(handle: JobHandle) -> list[int]:
    events = read_events(handle.run_directory / "events.jsonl")
    return [event["attempt"] for event in events if event["event"] == "start"]


def test_a_job_outlives_its_submitter_and_comes_back_finished(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    code = (
        "import sys, json; from mxpipe.jobs import LocalLauncher; from mxpipe.train import TrainSpec; "
        "LocalLauncher(sys.argv[1]).submit(TrainSpec.from_json(json.loads(sys.argv[2])), 'month/1')"
    )
    spec = make_spec()
    subprocess.run([sys.executable, "-c", code, str(launcher.root), json.dumps(spec.to_json())], check=True)
    job_id = job_id_of("month/1")
    identity = process_of(JobHandle(job_id, launcher.root / job_id))
    assert os.getsid(identity.pid) == os.getpgid(identity.pid) == identity.pid
    status = launcher.wait(job_id, timeout=60)
    assert status.state is JobState.SUCCEEDED, launcher.logs(job_id)[0]
    assert "100%" in launcher.logs(job_id)[0]
    handle = launcher.submit(spec, "month/1")  # again: nothing starts
    assert attempts(handle) == [1]
    assert process_of(handle) == identity
    with pytest.raises(SpecificationError, match="digest"):
        launcher.submit(make_spec(seed=99), "month/1")


def test_submitting_a_key_from_many_processes_at_once_makes_one_job(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    code = (
        "import sys, json; from mxpipe.jobs import LocalLauncher; from mxpipe.train import TrainSpec; "
        "print(LocalLauncher(sys.argv[1]).submit(TrainSpec.from_json(json.loads(sys.argv[2])), 'k').id)"
    )
    command = [sys.executable, "-c", code, str(launcher.root), json.dumps(make_spec(**LONG).to_json())]
    submitters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    ids = {submitter.communicate(timeout=60)[0].strip() for submitter in submitters}
    assert ids == {job_id_of("k")}
    handle = launcher.submit(make_spec(**LONG), "k")
    wait_for_step(launcher, handle, 3)
    with pytest.raises(SpecificationError, match="digest"):
        launcher.submit(make_spec(**LONG, seed=99), "k")
    identity = process_of(handle)
    assert attempts(handle) == [1]
    assert launcher.cancel(handle.id).state is JobState.CANCELLED
    assert not identity.is_alive()
    assert not identity.descendants()


def test_cancel_writes_a_checkpoint_and_leaves_no_process_and_a_new_submit_resumes(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    spec = make_spec(**LONG)
    handle = launcher.submit(spec, "k")
    wait_for_step(launcher, handle)
    status = launcher.cancel(handle.id)
    assert status.state is JobState.CANCELLED
    assert launcher.poll(handle.id).state is JobState.CANCELLED
    assert launcher.cancel(handle.id).state is JobState.CANCELLED
    newest = sorted((handle.run_directory / "checkpoints").iterdir())[-1].name
    assert int(newest.removeprefix("step-")) == status.step
    assert launcher.submit(spec, "k") == handle
    wait_for_step(launcher, handle, status.step + 1)
    assert attempts(handle) == [1, 2]


def test_a_killed_job_is_noticed_and_resumed(launcher: LocalLauncher, make_spec: MakeSpec) -> None:
    spec = make_spec(**LONG)
    handle = launcher.submit(spec, "k")
    wait_for_step(launcher, handle)
    process_of(handle).signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while launcher.poll(handle.id).state.is_active:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert launcher.poll(handle.id).state is JobState.INTERRUPTED
    launcher.submit(spec, "k")
    deadline = time.monotonic() + 30
    while len(attempts(handle)) < 2:
        assert time.monotonic() < deadline, launcher.logs(handle.id)[0]
        time.sleep(0.05)
    assert launcher.poll(handle.id).state.is_active


def test_a_submit_waits_for_an_attempt_that_is_on_its_way_out(
    launcher: LocalLauncher, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_callback.py").write_text(
        "import time\n"
        "class Slow:\n"
        "    def __init__(self, configuration): self.seconds = configuration['seconds']\n"
        "    def on_end(self, context, status): time.sleep(self.seconds)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    spec = make_spec(**LONG)
    callbacks = {"slow_callback:Slow": {"seconds": 1.0}}
    handle = launcher.submit(spec, "k", callbacks=callbacks)
    wait_for_step(launcher, handle)
    former = process_of(handle)
    former.signal(signal.SIGTERM)
    while launcher.poll(handle.id).state.is_active:
        time.sleep(0.01)
    assert former.is_alive()  # it tells its callback
    stopped = launcher.poll(handle.id).step
    launcher.submit(spec, "k", callbacks=callbacks)
    wait_for_step(launcher, handle, stopped + 1)
    assert attempts(handle) == [1, 2]


def test_a_fresh_submit_starts_over(launcher: LocalLauncher, make_spec: MakeSpec) -> None:
    spec = make_spec(**LONG)
    handle = launcher.submit(spec, "k")
    wait_for_step(launcher, handle)
    former = process_of(handle)
    launcher.submit(make_spec(**LONG, seed=1), "k", fresh=True)  # even another specification
    assert not former.is_alive()
    wait_for_step(launcher, handle)
    assert attempts(handle) == [1]


def test_a_job_that_fails_says_why_and_is_not_polled_for_ever(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    handle = launcher.submit(make_spec(data={"train": "/no/such/snapshot"}), "k")
    status = launcher.wait(handle.id, timeout=60)
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert "/no/such/snapshot" in status.error["message"]
    assert not status.error["retryable"]
    assert "/no/such/snapshot" in launcher.logs(handle.id)[0]


def test_an_unknown_callback_fails_the_job(launcher: LocalLauncher, make_spec: MakeSpec) -> None:
    handle = launcher.submit(make_spec(), "k", callbacks={"no_such_callback": {}})
    status = launcher.wait(handle.id, timeout=60)
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert "no_such_callback" in status.error["message"]


def test_a_builder_of_the_file_alone_is_not_imported(launcher: LocalLauncher, make_spec: MakeSpec) -> None:
    name = "mxpipe.gluon.model_zoo.tabular:logistic_regression"
    spec = make_spec(model={"builder": name}, epochs=1)
    handle = launcher.submit(spec, "k")
    status = launcher.wait(handle.id, timeout=60)
    assert status.state is JobState.FAILED
    launcher.submit(spec, "k", builders=[name])
    assert launcher.wait(handle.id, timeout=60).state is JobState.SUCCEEDED, launcher.logs(handle.id)[0]


def test_the_worker_says_by_its_exit_code_how_it_ended(make_spec: MakeSpec, tmp_path: Path) -> None:
    def start(name: str, spec: TrainSpec) -> subprocess.Popen[bytes]:
        run = RunDirectory(tmp_path / name)
        if not run.exists():
            with run.acquire_lease():
                run.initialise(spec, key=name)
        command = [sys.executable, "-m", "mxpipe.jobs.worker", str(run.path)]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    worker = start("stopped", make_spec(**LONG))
    while not (tmp_path / "stopped" / "events.jsonl").exists():
        assert worker.poll() is None
        time.sleep(0.01)
    second = start("stopped", make_spec(**LONG))
    assert second.wait(timeout=60) == 1  # the lease is held
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 75
    assert RunDirectory(tmp_path / "stopped").read_status().state is JobState.INTERRUPTED
    assert start("failed", make_spec(loss="no_such_loss")).wait(timeout=60) == 1
    assert start("finished", make_spec(epochs=1)).wait(timeout=60) == 0
    assert start("finished", make_spec(epochs=1)).wait(timeout=60) == 0  # nothing to do


def test_logs_go_on_from_an_offset(launcher: LocalLauncher, make_spec: MakeSpec) -> None:
    handle = launcher.submit(make_spec(), "k")
    text, offset = "", 0
    while launcher.poll(handle.id).state.is_active:
        more, offset = launcher.logs(handle.id, offset)
        assert more == "" or more.endswith("\n")
        text += more
        time.sleep(0.05)
    more, offset = launcher.logs(handle.id, offset)
    assert text + more == (handle.run_directory / "log.txt").read_text()
    assert launcher.logs(handle.id, offset) == ("", offset)


def test_ids_are_names_not_paths(launcher: LocalLauncher) -> None:
    for job_id in ("", ".", "..", "a/b", "/etc", "no-such-job"):
        with pytest.raises(JobNotFoundError):
            launcher.poll(job_id)
        with pytest.raises(JobNotFoundError):
            launcher.logs(job_id)
        with pytest.raises(JobNotFoundError):
            launcher.cancel(job_id)
    assert not launcher.root.exists()
    assert job_id_of("../../etc/passwd") != job_id_of("etc/passwd")
    assert "/" not in job_id_of("../../etc/passwd")


def test_launchers_are_found_by_name(tmp_path: Path) -> None:
    assert isinstance(get_launcher("local", root=tmp_path), LocalLauncher)
    with pytest.raises(SpecificationError, match="local"):
        get_launcher("moon")
    with pytest.raises(SpecificationError, match="free"):
        register_launcher("local", get_launcher)
    with pytest.raises(SpecificationError, match="queue"):
        get_launcher("local", root=tmp_path, queue="nightly")


def test_an_installed_package_brings_a_launcher_by_its_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MissingExtraError, match=r"'kubernetes' must be installed.*mxpipe\.launchers"):
        get_launcher("kubernetes", root=tmp_path)
    package = tmp_path / "cluster-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: cluster\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[mxpipe.launchers]\nkubernetes = mxpipe.jobs:LocalLauncher\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert get_launcher("kubernetes", root=tmp_path).root == tmp_path


# --- processes


def test_a_recycled_process_id_is_never_signalled() -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        mine = ProcessIdentity.of(sleeper.pid)
        for stranger in (
            ProcessIdentity(mine.pid, mine.start_ticks + 1, mine.boot_id),
            ProcessIdentity(mine.pid, mine.start_ticks, "another boot"),
        ):
            assert not stranger.is_alive()
            assert not stranger.signal(signal.SIGKILL)
            end_processes(stranger, timeout=0.0)
        assert sleeper.poll() is None
        end_processes(mine, timeout=5.0)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert not mine.is_alive()


def test_ending_a_process_ends_what_it_started_even_in_other_sessions() -> None:
    code = (
        "import subprocess, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "children = [subprocess.Popen(['sleep', '60'], start_new_session=True) for _ in range(3)]; "
        "print('ready', flush=True); time.sleep(60)"
    )
    token = uuid.uuid4().hex
    environment = os.environ | {TOKEN_VARIABLE: token}
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "ready\n"
    leader = ProcessIdentity.of(parent.pid, token)
    children = leader.descendants()
    end_processes(leader, timeout=0.2)
    parent.wait()
    assert len(children) == 3
    assert not any(child.is_alive() for child in children)
