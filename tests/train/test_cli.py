"""The command line, from train to predict, and its one-line errors."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from mxpipe.cli import main
from mxpipe.data import Snapshot
from mxpipe.train import JobState, RunDirectory, TrainSpec

MakeSpec = Callable[..., TrainSpec]


@pytest.fixture(scope="module")
def trained(make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "spec.json").write_text(json.dumps(make_spec(epochs=1).to_json()))
    assert main(["train", str(folder / "spec.json"), "--run", str(folder / "run")]) == 0
    return folder / "run"


@pytest.mark.parametrize(
    "command", ["train", "status", "cancel", "logs", "jobs", "predict", "inspect", "serve"]
)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"mxpipe {command}" in capsys.readouterr().out.split("example:")[1]


def test_status_and_inspect_show_a_run(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", str(trained)]) == 0
    assert "SUCCEEDED, step 23/23" in capsys.readouterr().out
    assert main(["status", "--json", str(trained)]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "SUCCEEDED"
    assert main(["inspect", str(trained)]) == 0
    assert "epoch   1" in capsys.readouterr().out
    assert main(["jobs", "list", "--root", str(trained.parent)]) == 0
    assert capsys.readouterr().out.startswith("run  ")


def test_inspect_shows_a_model_and_a_snapshot(
    trained: Path, snapshots: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(trained / "model"), "--graph", "--plan", "--memory", "--rows", "8"]) == 0
    shown = capsys.readouterr().out
    for part in (
        "deep",
        "carrier",
        "required",
        "graph of 8 rows",
        "input numeric",
        "plan of 8 rows",
        "memory of 8 rows",
    ):
        assert part in shown
    drawing = trained / "plan.html"
    assert main(["inspect", str(trained / "model"), "--profile", "2", "--draw", str(drawing)]) == 0
    assert "GFLOP/s" in capsys.readouterr().out
    assert "</svg>" in drawing.read_text()
    assert main(["inspect", snapshots[0]]) == 0
    assert "rows 3,000" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["parquet", "csv", "arrow", "json"])
def test_predict_reads_and_writes_files(
    trained: Path, snapshots: tuple[str, str], tmp_path: Path, kind: str
) -> None:
    from mxpipe.data.files import read_rows, writing_rows
    from mxpipe.model import load_model

    table = Snapshot.open(snapshots[1]).to_table()
    expected = load_model(trained / "model").predict(table)
    with writing_rows(tmp_path / f"rows.{kind}") as write:
        write(table)
    arguments = ["--input", str(tmp_path / f"rows.{kind}"), "--output", str(tmp_path / f"late.{kind}")]
    arguments += ["--key", "hour"]
    assert main(["predict", "--model", str(trained / "model"), *arguments]) == 0
    result = pa.Table.from_batches(read_rows(tmp_path / f"late.{kind}"))
    assert result["probability"].to_numpy() == pytest.approx(expected, abs=1e-6)
    assert result["hour"].to_pylist() == table["hour"].to_pylist()


def test_predict_puts_refused_rows_aside(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_text("id,distance,hour,carrier\n1,200,7,UA\n2,far,8,UA\n3,300,9.5,UA\n")
    arguments = ["--input", str(tmp_path / "rows.csv"), "--output", str(tmp_path / "late.csv"), "--key", "id"]
    assert main(["predict", "--model", str(trained / "model"), *arguments]) == 0
    assert "2 of them were refused" in capsys.readouterr().out
    assert (tmp_path / "late.csv").read_text().splitlines()[1].startswith("1,0.")
    refused = (tmp_path / "late.errors.csv").read_text()
    assert '2,0,1,"distance","not a number","far"' in refused
    assert '3,0,2,"hour","not an integer","9.5"' in refused


def test_predict_of_a_snapshot_writes_one(
    trained: Path, snapshots: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input", snapshots[1], "--output", str(tmp_path / "late"), "--key", "carrier"]
    assert main(["predict", "--model", str(trained / "model"), *arguments]) == 0
    assert "800 rows" in capsys.readouterr().out
    assert Snapshot.open(tmp_path / "late").num_rows == 800


def test_a_detached_training_is_followed_and_cancelled(
    make_spec: MakeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spec.json").write_text(json.dumps(make_spec(epochs=100_000).to_json()))
    run = str(tmp_path / "run")
    command = ["train", str(tmp_path / "spec.json"), "--run", run, "--detach"]
    assert main(command) == main(command) == 0
    assert main(["cancel", run]) == 0
    assert main(["logs", "-f", run]) == 0
    assert RunDirectory(run).read_status().state is JobState.CANCELLED
    assert "CANCELLED" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "no/run"], "JobNotFoundError"),
        (["inspect", "/"], "model.json"),
        (["train", "no.json", "--run", "r"], "no.json"),
        (["predict", "--model", "no", "--input", "a.csv", "--output", "b.csv"], "ModelFormatError"),
    ],
)
def test_errors_are_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = subprocess.run([sys.executable, "-m", "mxpipe", *arguments], capture_output=True, text=True)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())
