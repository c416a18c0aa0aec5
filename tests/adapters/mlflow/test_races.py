"""Two processes that write to one registry at once: as on one machine, and as on two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mxpipe_mlflow import registry

# Both wait for each other after the slow imports, so that what follows is at the same time.
WRITER = """
import json, os, sys, time
from pathlib import Path
import mxpipe_mlflow.flavor
from mxpipe.errors import RegistryConflictError
from mxpipe_mlflow import registry

uri, name, path, who, meeting = sys.argv[1:]
registry.find_version(name, "none", tracking_uri=uri)  # the database is open
Path(meeting, who).touch()
while len(os.listdir(meeting)) < 2:
    time.sleep(0.001)
shared = registry.publish_once(name, path, "shared", experiment=name, tracking_uri=uri)
own = registry.publish_once(name, path, who, experiment=name, tracking_uri=uri)
try:
    promoted = registry.promote(name, own.version, None, tracking_uri=uri).changed
except RegistryConflictError:
    promoted = False
print(json.dumps({"shared": shared.version, "run": shared.run_id, "created": shared.created,
                  "own": own.version, "promoted": promoted}))
"""


def race(tracking_uri: str, name: str, model: Path, folder: Path, apart: bool) -> list[dict[str, Any]]:
    (folder / "meeting").mkdir()
    writers = []
    for who in ("a", "b"):
        environment = dict(os.environ)
        if apart:  # locks are files of a machine: with other places for them, these are two machines
            (folder / who).mkdir()
            environment["TMPDIR"] = str(folder / who)
        command = [sys.executable, "-c", WRITER, tracking_uri, name, str(model), who, str(folder / "meeting")]
        writers.append(subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE))
    answers = [writer.communicate(timeout=240)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0]
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("apart", [False, True], ids=["one-machine", "two-machines"])
def test_two_writers(trained_models: Any, tracking_uri: str, name: str, tmp_path: Path, apart: bool) -> None:
    first, second = race(tracking_uri, name, trained_models.first, tmp_path, apart)
    client = mlflow.MlflowClient(tracking_uri)
    versions = client.search_model_versions(f"name = '{name}'")
    experiment = client.get_experiment_by_name(name)

    # One version and one run for the key that both had, made by one of them.
    assert first["shared"] == second["shared"]
    assert first["run"] == second["run"]
    assert sorted([first["created"], second["created"]]) == [False, True]
    assert sorted(str(version.version) for version in versions) == sorted(
        [first["shared"], first["own"], second["own"]]
    )
    assert len(client.search_runs([experiment.experiment_id])) == 3

    # Both promoted theirs, having seen no champion.
    champion = registry.resolve(name, tracking_uri=tracking_uri)
    assert champion is not None
    winners = [answer["own"] for answer in (first, second) if answer["promoted"]]
    assert champion.version in winners
    if not apart:
        assert winners == [champion.version]
