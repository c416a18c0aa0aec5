"""Heartbeats, the reaper, retention, disk space, and secrets that stay secret."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mxpipe.cli import main
from mxpipe.data import Snapshot, write_snapshot
from mxpipe.errors import LeaseHeldError, SpecificationError, StorageError
from mxpipe.jobs import JobHandle, JobState, LocalLauncher
from mxpipe.jobs.process import TOKEN_VARIABLE, ProcessIdentity
from mxpipe.jobs.reaper import Finding, maintenance, reap
from mxpipe.jobs.retention import Policy, prune
from mxpipe.model.storage import require_space
from mxpipe.train import RunDirectory, TrainSpec
from mxpipe.train.checkpoint import Checkpoint, write_checkpoint

MakeSpec = Callable[..., TrainSpec]
LONG = {"epochs": 100_000, "checkpoint": {"every_steps": None, "every_seconds": 0.2}}
SECRET = "hunter2-Zq9"
DAY = 86400.0


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[LocalLauncher]:
    """A launcher whose jobs are ended with the test."""
    launcher = LocalLauncher(tmp_path / "runs")
    yield launcher
    for job_id, _ in launcher.list():
        launcher.cancel(job_id, timeout=0.0)


def start(launcher: LocalLauncher, spec: TrainSpec, key: str = "k", **more: object) -> JobHandle:
    handle = launcher.submit(spec, key, **more)  # type: ignore[arg-type]
    wait_until(lambda: launcher.poll(handle.id).step > 0 or not launcher.poll(handle.id).state.is_active)
    return handle


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def process_of(run: RunDirectory) -> ProcessIdentity:
    identity = ProcessIdentity.from_json(run.read_process())
    assert identity is not None
    return identity


def ended_run(root: Path, name: str, spec: TrainSpec, days: float, state: str = "FAILED") -> RunDirectory:
    """A run that ended so many days ago, with a checkpoint."""
    run = RunDirectory(root / name)
    with run.acquire_lease():
        run.initialise(spec, key=name)
        run.write_status(run.read_status().replace(state=JobState.RUNNING))
        run.write_status(run.read_status().replace(state=JobState(state)))
    write_checkpoint(run.checkpoints_path, Checkpoint(1, {"w": np.zeros(1000, np.float32)}, {}), keep=2)
    then = time.time() - days * DAY
    os.utime(run.status_path, (then, then))
    return run


def kinds(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.kind, finding.action.split()[0]) for finding in findings]


# --- heartbeats


def test_a_silent_training_gives_signs_of_life(
    launcher: LocalLauncher, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "silent_callback.py").write_text(
        "import time\n"
        "class Silent:\n"
        "    def __init__(self, configuration): pass\n"
        "    def on_start(self, context, step): time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    handle = launcher.submit(make_spec(), "k", callbacks={"silent_callback:Silent": {}})
    run = launcher.run_directory(handle.id)
    wait_until(lambda: run.read_status().state is JobState.RUNNING)
    written = run.read_status().heartbeat
    assert written is not None
    wait_until(lambda: (launcher.poll(handle.id).heartbeat or 0.0) > written + 1.5)
    assert run.read_status().heartbeat == written, "the training itself has been silent"
    process_of(run).signal(signal.SIGKILL)
    wait_until(lambda: launcher.poll(handle.id).state is JobState.INTERRUPTED)
    last = launcher.run_directory(handle.id).lease_path.stat().st_mtime
    time.sleep(1.2)
    assert run.lease_path.stat().st_mtime == last
    assert not run.is_lease_held()


# --- the reaper


def test_the_reaper_settles_jobs_without_a_process_and_removes_what_they_left(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    handle = start(launcher, make_spec(**LONG))
    at_work = start(launcher, make_spec(**LONG, seed=3), "other")
    run = launcher.run_directory(handle.id)
    killed = process_of(run)
    killed.signal(signal.SIGKILL)
    wait_until(lambda: not run.is_lease_held() and not killed.is_alive())  # the lease goes a moment before
    for folder in (run.path, run.checkpoints_path):
        (folder / ".half.1.0.partial").mkdir()
        (folder / ".half.1.0.partial" / "weights").write_bytes(b"x" * 1000)
    assert run.read_status().state is JobState.RUNNING
    would = reap(launcher.root, dry_run=True)
    assert run.read_status().state is JobState.RUNNING
    done = reap(launcher.root)
    assert done == would
    assert kinds(done)[0] == ("job", "settle")
    assert [finding.bytes for finding in done if finding.kind == "file"][:2] == [1000, 1000]
    assert run.read_status().state is JobState.INTERRUPTED
    assert not list(run.path.rglob("*.partial"))
    assert launcher.poll(at_work.id).state is JobState.RUNNING
    assert reap(launcher.root) == []
    launcher.submit(make_spec(**LONG), "k")
    wait_until(lambda: launcher.poll(handle.id).attempt == 2)


def test_the_reaper_ends_what_outlives_its_job(launcher: LocalLauncher, make_spec: MakeSpec) -> None:
    handle = start(launcher, make_spec(**LONG))
    run = launcher.run_directory(handle.id)
    worker = process_of(run)
    child = subprocess.Popen(
        ["sleep", "60"], env=os.environ | {TOKEN_VARIABLE: worker.token}, start_new_session=True
    )
    try:
        worker.signal(signal.SIGSTOP)  # it no longer speaks for itself
        run.write_status(run.read_status().replace(state=JobState.CANCELLED))
        assert reap(launcher.root, grace_seconds=60) == []
        assert worker.is_alive()
        assert kinds(reap(launcher.root, grace_seconds=0.0))[0] == ("process", "end")
        assert not worker.is_alive()
        assert child.wait(timeout=10) == -signal.SIGKILL
    finally:
        child.kill()


def test_the_reaper_ends_children_whose_worker_was_killed(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    handle = start(launcher, make_spec(**LONG))
    run = launcher.run_directory(handle.id)
    worker = process_of(run)
    child = subprocess.Popen(
        ["sleep", "60"], env=os.environ | {TOKEN_VARIABLE: worker.token}, start_new_session=True
    )
    try:
        worker.signal(signal.SIGKILL)
        # A process that counts as dead may still hold its files for a moment, and so its lease.
        wait_until(lambda: not worker.is_alive() and not run.is_lease_held() and worker.descendants())
        assert kinds(reap(launcher.root))[:2] == [("process", "end"), ("job", "settle")]
        assert child.wait(timeout=10) == -signal.SIGKILL
    finally:
        child.kill()


def test_the_reaper_finishes_a_cancellation_and_ends_workers_of_removed_runs(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    cancelled = start(launcher, make_spec(**LONG))
    removed = start(launcher, make_spec(**LONG, seed=3), "other")
    run, worker = launcher.run_directory(cancelled.id), process_of(launcher.run_directory(removed.id))
    run.cancel_path.touch()  # whoever asked was killed before it signalled the job
    assert reap(launcher.root) == []
    os.utime(run.cancel_path, (time.time() - 300,) * 2)
    worker.signal(signal.SIGSTOP)  # it must not write into what is being removed
    shutil.rmtree(removed.run_directory)
    assert kinds(reap(launcher.root)) == [("job", "cancel"), ("process", "end")]
    assert run.read_status().state is JobState.CANCELLED
    assert not worker.is_alive()


def test_the_reaper_removes_abandoned_staging_of_snapshots(tmp_path: Path) -> None:
    code = (
        "import sys, time; from mxpipe.data import SnapshotWriter, write_shard\n"
        "writer = SnapshotWriter(sys.argv[1]); write_shard(writer.staging_uri, 0, {'x': [1, 2]})\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "snapshots" / name)], stdout=subprocess.PIPE
        )
        for name in ("killed", "at_work")
    ]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        writers[0].kill()
        writers[0].wait()
        (tmp_path / "runs").mkdir()
        (tmp_path / "snapshots" / ".old.1.0.partial").mkdir()  # of a prune that was killed
        findings = reap(tmp_path / "runs", snapshots=(tmp_path / "snapshots",), grace_seconds=0.0)
        assert [Path(finding.path).name for finding in findings] == [".killed.writing", ".old.1.0.partial"]
        assert findings[0].bytes > 0
        assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [".at_work.writing"]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()


def test_one_process_clears_up_at_a_time(tmp_path: Path) -> None:
    with maintenance(tmp_path):
        for clear in (reap, lambda root: prune(root, Policy(keep_last=1))):
            with pytest.raises(LeaseHeldError, match="one process"):
                clear(tmp_path)
        assert reap(tmp_path, dry_run=True) == []


# --- retention


def test_every_rule_must_let_a_run_go(tmp_path: Path, make_spec: MakeSpec) -> None:
    for days in range(1, 6):
        ended_run(tmp_path, f"day-{days}", make_spec(), days)
    ended_run(tmp_path, "fresh", make_spec(), 0.01)

    def going(**rules: float) -> list[str]:
        findings = prune(tmp_path, Policy(**rules), dry_run=True)  # type: ignore[arg-type]
        return sorted(Path(finding.path).name for finding in findings)

    assert going(keep_last=3) == ["day-3", "day-4", "day-5"]
    assert going(older_than_days=3.5) == ["day-4", "day-5"]
    assert going(keep_last=5, older_than_days=0) == ["day-5"]
    assert going(older_than_days=0, keep_bytes=10**9) == []
    assert going(keep_bytes=0) == [f"day-{days}" for days in range(1, 6)], "never within the hour"
    with pytest.raises(SpecificationError, match="one rule"):
        Policy()
    with pytest.raises(SpecificationError, match="at least 0"):
        Policy(keep_last=-1)
    assert len(list(tmp_path.glob("day-*"))) == 5
    findings = prune(tmp_path, Policy(keep_last=2), checkpoints_only=True)
    assert {finding.kind for finding in findings} == {"checkpoints"}
    assert not list(tmp_path.glob("day-5/checkpoints/*"))
    assert list(tmp_path.glob("day-1/checkpoints/*"))
    assert RunDirectory(tmp_path / "day-5").exists()


def test_nothing_goes_that_is_at_work_referred_to_or_still_to_be_sent(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, snapshots = tmp_path / "runs", tmp_path / "snapshots"
    for name in ("used", "parent", "unused"):
        write_snapshot(snapshots / name, {"x": [1.0], "name": [name]})
    parent = Snapshot.open(str(snapshots / "parent")).digest
    write_snapshot(snapshots / "child", {"x": [2.0]}, metadata={"of": parent})
    for manifest in snapshots.glob("*/manifest.json"):
        os.utime(manifest, (time.time() - 9 * DAY,) * 2)
    data = {"train": str(snapshots / "used")}
    warm = str(runs / "first" / "model")
    ended_run(runs, "first", make_spec(), 9)
    ended_run(runs, "second", make_spec(data=data, warm_start=warm), 9)
    ended_run(runs, "unused", make_spec(data={"train": str(snapshots / "unused")}), 9)
    unsent = ended_run(runs, "unsent", make_spec(), 9)
    (unsent.path / "mlflow.jsonl").write_text('{"event": "end"}\n')
    at_work = ended_run(runs, "at_work", make_spec(), 9)
    referrers = tmp_path / "evaluations"
    referrers.mkdir()
    (referrers / "one.json").write_text(json.dumps({"run": str(runs / "second"), "data": [{"of": "child"}]}))
    (referrers / "two.jsonl").write_text(json.dumps({"snapshot": f"file://{snapshots}/child"}) + "\n")
    command = ["jobs", "prune", "--root", str(runs), "--older-than", "7", "--snapshots", str(snapshots)]
    command += ["--referrers", str(referrers), "--json"]
    with at_work.acquire_lease():
        assert main([*command, "--dry-run"]) == 0
        would = json.loads(capsys.readouterr().out)
        assert unsent.exists()
        assert main(command) == 0
        done = json.loads(capsys.readouterr().out)
    assert [item["path"] for item in done] == [item["path"] for item in would]
    assert {item["path"] for item in done} == {str(runs / "unused"), str(snapshots / "unused")}
    assert sorted(path.name for path in runs.iterdir() if path.is_dir()) == [
        "at_work",
        "first",
        "second",
        "unsent",
    ]
    assert sorted(path.name for path in snapshots.iterdir()) == ["child", "parent", "used"]
    Snapshot.open(str(snapshots / "used")).verify()


def test_a_run_that_is_submitted_again_while_it_is_removed_starts_over(
    launcher: LocalLauncher, make_spec: MakeSpec
) -> None:
    handle = start(launcher, make_spec(**LONG))
    launcher.cancel(handle.id, timeout=10.0)
    run = launcher.run_directory(handle.id)
    os.utime(run.status_path, (time.time() - DAY,) * 2)
    code = (
        "import sys, json; from mxpipe.jobs import LocalLauncher; from mxpipe.train import TrainSpec; "
        "LocalLauncher(sys.argv[1]).submit(TrainSpec.from_json(json.loads(sys.argv[2])), 'k')"
    )
    spec = json.dumps(make_spec(**LONG).to_json())
    with launcher._launch_lock(run):  # the submitter waits for the lock of a folder that goes away
        submitter = subprocess.Popen([sys.executable, "-c", code, str(launcher.root), spec])
        time.sleep(1.0)
        os.rename(run.path, run.path.with_name(".aside"))
        shutil.rmtree(run.path.with_name(".aside"))
    assert submitter.wait(timeout=60) == 0
    wait_until(lambda: launcher.poll(handle.id).step > 0)
    assert launcher.poll(handle.id).attempt == 1
    assert run.is_lease_held()


# --- disk space


def test_what_cannot_fit_is_not_begun(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.zeros(1, np.float32), (1 << 55,))
    write_checkpoint(tmp_path, Checkpoint(1, {"w": np.ones(3, np.float32)}, {}), keep=2)
    with pytest.raises(StorageError, match=r"step-000000002\] there must be .* MB free .*; got .* MB\."):
        write_checkpoint(tmp_path, Checkpoint(2, {"w": huge}, {}), keep=2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000001"]

    class Rows:
        nbytes = 1 << 60

    with pytest.raises(StorageError, match="MB free"):
        write_snapshot(tmp_path / "rows", Rows())
    assert not list(tmp_path.glob("*rows*"))
    with pytest.raises(StorageError, match="MB free"):
        require_space(tmp_path / "not" / "yet" / "there", 1 << 60)
    require_space(tmp_path / "not" / "yet" / "there", 1000)


# --- secrets


def test_a_specification_with_credentials_is_refused_without_repeating_them(make_spec: MakeSpec) -> None:
    for changes in (
        {"data": {"train": f"s3://key:{SECRET}@bucket/rows"}},
        {"warm_start": f"https://models/late?token={SECRET}"},
    ):
        with pytest.raises(SpecificationError, match="hold no credentials") as raised:
            make_spec(**changes)
        assert SECRET not in str(raised.value)


def test_a_planted_secret_is_nowhere_in_the_run_directory(
    launcher: LocalLauncher, make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "careless.py").write_text(
        "import logging, warnings\n"
        "class Careless:\n"
        "    def __init__(self, configuration): self.uri = configuration['uri']\n"
        "    def on_start(self, context, step):\n"
        "        logging.getLogger('client').warning('connecting to %s', self.uri)\n"
        "        warnings.warn(f'{self.uri} is old')\n"
        "        raise OSError(f'{self.uri} refused')\n"
        "    def on_epoch(self, context, epoch, step, metrics): raise SystemError(self.uri)\n"
        "def refuse(configuration): raise OSError(f'no way to {configuration[\"uri\"]}')\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("MXPIPE_TEST_PASSWORD", SECRET)
    uri = f"postgresql://me:{SECRET}@db.example/mlflow?password={SECRET}"
    handle = launcher.submit(make_spec(epochs=1), "k", callbacks={"careless:Careless": {"uri": uri}})
    assert launcher.wait(handle.id, timeout=60).state is JobState.SUCCEEDED
    failed = launcher.submit(make_spec(epochs=1), "f", callbacks={"careless:refuse": {"uri": uri}})
    status = launcher.wait(failed.id, timeout=60)
    assert status.state is JobState.FAILED
    assert status.error is not None
    assert "no way to postgresql://***@db.example" in status.error["message"]
    assert "connecting to postgresql://***@db.example/mlflow?password=***" in launcher.logs(handle.id)[0]
    assert "***@db.example" in (handle.run_directory / "events.jsonl").read_text()
    files = [path for path in launcher.root.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
