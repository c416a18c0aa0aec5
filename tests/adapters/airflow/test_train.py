"""The train operator on a real Airflow: durable, deferrable, and gone when it is told to."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

ENDLESS = 100_000_000


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small snapshot that a line can learn."""
    from mxpipe.data import write_snapshot

    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 256))
    columns = {"x": x, "y": y, "label": (x + y > 0).astype(np.int32)}
    return write_snapshot(tmp_path_factory.mktemp("data") / "rows", columns)


def training(snapshot: Any, steps: int) -> dict[str, Any]:
    """A run's configuration."""
    spec = {
        "model": {"builder": "logistic_regression"},
        "data": {
            "train": snapshot.uri,
            "features": {"numeric": ["x", "y"], "label": "label"},
            "batch_size": 16,
        },
        "steps": steps,
        "checkpoint": {"every_steps": 50},
    }
    return {"spec": spec, "digest": snapshot.digest}


def jobs(root: Path) -> list[tuple[str, Any]]:
    from mxpipe.jobs import LocalLauncher

    return LocalLauncher(root / "jobs").list()


def wait_until(condition: Any, seconds: float = 120.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)
    return value


def the_running_job(root: Path) -> tuple[str, Any] | None:
    """The one job, once it has taken its first steps."""
    found = jobs(root)
    assert len(found) <= 1
    return found[0] if found and found[0][1].step > 0 else None


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_deferred_training_returns_a_small_manifest(root: Path, start_run: Any, snapshot: Any) -> None:
    run = start_run("train_deferred", **training(snapshot, 200))
    outcome = run.attempt("train")
    assert outcome.state == "success", outcome.error
    manifest = run.xcom("train")
    assert len(json.dumps(manifest)) < 8192
    assert manifest["steps"] == 200
    assert manifest["attempt"] == 1
    assert (Path(manifest["model_uri"]) / "weights.safetensors").exists()


def test_the_same_inputs_train_once(root: Path, start_run: Any, snapshot: Any) -> None:
    conf = training(snapshot, 200)
    manifests = []
    for dag_id in ("train_polled", "train_polled"):
        run = start_run(dag_id, **conf)
        assert run.attempt("train").state == "success"
        manifests.append(run.xcom("train"))
    assert [manifest["attempt"] for manifest in manifests] == [1, 1]
    assert manifests[0]["key"] == manifests[1]["key"]
    assert manifests[0]["model_digest"] == manifests[1]["model_digest"]
    assert len(jobs(root)) == 1


def test_a_killed_worker_leaves_the_job_its_retry_finds_it_and_its_end_ends_the_job(
    root: Path, start_run: Any, snapshot: Any
) -> None:
    run = start_run("train_polled", **training(snapshot, ENDLESS))
    run.queue("train")
    first = run.start_worker("train")
    job_id, status = wait_until(lambda: the_running_job(root))
    first.kill()
    first.wait()
    assert is_alive(status.pid)

    run.queue("train", retry=True)
    second = run.start_worker("train")
    wait_until(lambda: b"goes on with the job" in second.stdout.readline())
    time.sleep(0.5)
    (found,) = jobs(root)
    assert found[0] == job_id
    assert (found[1].pid, found[1].attempt) == (status.pid, 1), "no second job was started"

    second.terminate()
    output, _ = second.communicate(timeout=60)
    assert b"a retry resumes it" in output
    assert not is_alive(status.pid)
    (found,) = jobs(root)
    assert str(found[1].state) == "CANCELLED"
    assert list((root / "jobs" / job_id / "checkpoints").iterdir()), "the checkpoint of its end"


def test_clearing_a_deferred_task_ends_its_job_and_starts_afresh(
    root: Path, start_run: Any, snapshot: Any
) -> None:
    run = start_run("train_deferred", **training(snapshot, ENDLESS))
    assert run.attempt("train", resume=False).state == "deferred"
    job_id, status = wait_until(lambda: the_running_job(root))
    asyncio.run(cancel_as_a_user_does(root, job_id))
    assert not is_alive(status.pid)

    run.clear("train")
    assert run.attempt("train", resume=False).state == "deferred"
    fresh_id, fresh = wait_until(
        lambda: next(((name, job) for name, job in jobs(root) if job.state.is_active and job.step > 0), None)
    )
    assert fresh_id != job_id
    assert fresh.attempt == 1
    assert sum(job.state.is_active for _, job in jobs(root)) == 1


async def cancel_as_a_user_does(root: Path, job_id: str) -> None:
    """Run the trigger in Airflow's own runner and cancel it with the message of a user's action."""
    from airflow.jobs.triggerer_job_runner import _USER_ACTION_CANCEL_MSG, TriggerRunner

    from mxpipe_airflow.triggers.job import MxpipeJobTrigger

    runner = TriggerRunner()
    trigger = MxpipeJobTrigger(str(root / "jobs"), job_id, poll_interval=0.05)
    task = asyncio.create_task(runner.run_trigger(1, trigger))
    runner.triggers[1] = {"task": task, "is_watcher": False, "name": "train", "events": 0}
    await asyncio.sleep(0.5)
    task.cancel(_USER_ACTION_CANCEL_MSG)
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_bad_specification_fails_without_retry(root: Path, start_run: Any, snapshot: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    run = start_run("train_deferred", **training(snapshot, -1))
    outcome = run.attempt("train")
    assert isinstance(outcome.error, AirflowFailException)
    assert "spec.steps must be a positive number" in str(outcome.error)
    assert not jobs(root)


def test_missing_data_fails_without_retry(root: Path, start_run: Any, tmp_path: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    run = start_run(
        "train_deferred", **training(SimpleNamespace(uri=str(tmp_path / "nothing"), digest="00"), 10)
    )
    outcome = run.attempt("train")
    assert isinstance(outcome.error, AirflowFailException), outcome.error
    assert "no snapshot" in str(outcome.error).lower() or "nothing" in str(outcome.error)


def test_running_out_of_time_ends_the_job(root: Path, snapshot: Any) -> None:
    from mxpipe.jobs import LocalLauncher
    from mxpipe.train import TrainSpec
    from mxpipe_airflow.triggers.job import TIMED_OUT, MxpipeJobTrigger

    launcher = LocalLauncher(root / "jobs")
    spec = TrainSpec.from_json(training(snapshot, ENDLESS)["spec"])
    job_id = launcher.submit(spec, "endless").id
    wait_until(lambda: the_running_job(root))
    trigger = MxpipeJobTrigger(str(launcher.root), job_id, poll_interval=0.05, deadline=time.time())

    async def first_event() -> Any:
        return await anext(trigger.run())

    event = asyncio.run(first_event())
    assert event.payload == {"job_id": job_id, "state": TIMED_OUT}
    assert str(launcher.poll(job_id).state) == "CANCELLED"


def test_a_deferral_that_outlives_airflows_own_timeout_ends_the_job(
    root: Path, start_run: Any, snapshot: Any
) -> None:
    from airflow.sdk.exceptions import TaskDeferralTimeout

    run = start_run("train_deferred", **training(snapshot, ENDLESS))
    assert run.attempt("train", resume=False).state == "deferred"
    job_id, status = wait_until(lambda: the_running_job(root))
    outcome = run.fail_deferral("train", "Trigger timeout")
    assert isinstance(outcome.error, TaskDeferralTimeout)
    assert not is_alive(status.pid)
    assert [(name, str(job.state)) for name, job in jobs(root)] == [(job_id, "CANCELLED")]


def test_a_trigger_that_fails_leaves_the_job_to_the_retry_and_ends_it_where_there_is_none(
    root: Path, start_run: Any, snapshot: Any
) -> None:
    run = start_run("train_deferred", **training(snapshot, ENDLESS))
    assert run.attempt("train", resume=False).state == "deferred"
    _, status = wait_until(lambda: the_running_job(root))
    for attempt in range(2):
        outcome = run.fail_deferral("train", "Trigger failure")
        assert outcome.state == "up_for_retry", attempt
        assert is_alive(status.pid)
        assert run.attempt("train", retry=True, resume=False).state == "deferred"
    assert run.fail_deferral("train", "Trigger failure").state == "failed", "the last of three attempts"
    assert not is_alive(status.pid)
    assert len(jobs(root)) == 1


def test_files_that_are_gone_are_noticed_and_a_retry_trains_anew(
    root: Path, start_run: Any, snapshot: Any
) -> None:
    from mxpipe.errors import JobNotFoundError
    from mxpipe_airflow.triggers.job import GONE, MxpipeJobTrigger

    run = start_run("train_deferred", **training(snapshot, 50))
    assert run.attempt("train", resume=False).state == "deferred"
    ((job_id, status),) = wait_until(lambda: [job for job in jobs(root) if not job[1].state.is_active])
    wait_until(lambda: not is_alive(status.pid))
    shutil.rmtree(root / "jobs" / job_id)

    async def first_event() -> Any:
        return await anext(MxpipeJobTrigger(str(root / "jobs"), job_id).run())

    event = asyncio.run(first_event()).payload
    assert event == {"job_id": job_id, "state": GONE}
    outcome = run.resume("train", event)
    assert isinstance(outcome.error, JobNotFoundError)
    assert run.attempt("train", retry=True).state == "success"
    assert run.xcom("train")["steps"] == 50


def test_progress_is_in_the_log_while_the_task_is_deferred(
    root: Path, snapshot: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    from mxpipe.jobs import LocalLauncher
    from mxpipe.train import TrainSpec
    from mxpipe_airflow.triggers.job import MxpipeJobTrigger

    launcher = LocalLauncher(root / "jobs")
    spec = TrainSpec.from_json(training(snapshot, 30_000)["spec"])
    job_id = launcher.submit(spec, "long").id

    async def first_event() -> Any:
        return await anext(MxpipeJobTrigger(str(launcher.root), job_id, 0.05, 0.1).run())

    assert asyncio.run(first_event()).payload["state"] == "SUCCEEDED"
    lines = re.findall(r"(?:RUNNING|SUCCEEDED)  \d+%.*", re.sub(r"\x1b\[\d*m", "", capfd.readouterr().out))
    under_way = [line for line in lines if line.startswith("RUNNING")]
    assert under_way
    assert re.search(
        r"RUNNING  \d+%  step \d+/30000  [\d,]+ rows/s  [\d:]+ left  .*loss 0\.\d+", under_way[-1]
    )
    assert lines[-1].startswith("SUCCEEDED  100%  step 30000/30000")


class Recording:
    """A launcher of another name: what it is asked goes to a local one, and is noted."""

    asked: ClassVar[list[str]] = []

    def __init__(self, root: str, queue: str) -> None:
        from mxpipe.jobs import LocalLauncher

        assert queue == "nightly"
        self.local = LocalLauncher(root)
        self.root = self.local.root

    def __getattr__(self, name: str) -> Any:
        Recording.asked.append(name)
        return getattr(self.local, name)


def test_the_connection_chooses_the_launcher_for_operator_and_trigger(
    root: Path, start_run: Any, snapshot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mxpipe.jobs import register_launcher

    register_launcher("recording", Recording)
    extra = {"root": str(root), "launcher": "recording", "launcher_arguments": {"queue": "nightly"}}
    monkeypatch.setenv("AIRFLOW_CONN_MXPIPE_DEFAULT", json.dumps({"conn_type": "mxpipe", "extra": extra}))
    run = start_run("train_deferred", **training(snapshot, 100))
    outcome = run.attempt("train")
    assert outcome.state == "success", outcome.error
    assert set(Recording.asked) == {"submit", "poll", "run_directory"}
    (trigger,) = outcome.deferrals
    assert (trigger.launcher, trigger.launcher_arguments) == ("recording", {"queue": "nightly"})
    Recording.asked.clear()
    asyncio.run(trigger.on_kill())
    assert Recording.asked == ["cancel"]
