"""The benchmarks' own logic on tiny records: rows, table, comparison, notes. No peer is needed."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import notes, peer, results, runner, table
from benchmarks.limits import least_milliseconds
from benchmarks.peers import OURS, PEERS, QUICK, ROOT, USUAL, environment
from benchmarks.workloads import WORKLOADS

MACHINE = {"flops": 1e12, "bf16": 2e12, "amx": 0.0, "copy": 4e10, "bytes": 3e10}


def record(who: str, times: list[float], workload: str = "T1", dtype: str = "fp32", **more: object) -> dict:
    return {
        "peer": who,
        "workload": workload,
        "dtype": dtype,
        "status": "ok",
        "milliseconds": times,
        "check": [0.7, 0.6, 0.5, 0.4],
        "peak_mb": 100.0,
        **more,
    }


def rows_of(ours: float, theirs: float) -> list[dict]:
    return table.make_rows([record(OURS, [ours]), record("torch", [theirs])], MACHINE)


def test_a_row_holds_the_best_peer_and_the_limit():
    records = [
        record(OURS, [1.0, 2.0, 9.0], step_peak_mb=50.0),
        record(OURS, [4.0]),
        record("torch", [6.0]),
        record("torch_keep", [4.0]),
        record("jax_keep", [1.0]) | {"status": "error"},
    ]
    (row,) = table.make_rows(records, MACHINE)
    assert row["milliseconds"][OURS] == 3.0  # of the rounds' medians, 2 and 4
    assert row["best"] == "torch_keep"
    assert row["ratio"] == 0.75
    assert row["target"] == 0.6
    assert row["limit"] == pytest.approx(WORKLOADS["T1"].flops() / 1e12 * 1e3)
    assert row["share"] == pytest.approx(row["limit"] / 3)
    assert row["memory"][OURS] == 75.0
    assert row["difference"] == 0
    text = table.format_table([row])
    assert "torch_keep" in text
    assert "!" in text.splitlines()[1]
    assert "MISMATCH" not in text


def test_differing_losses_are_marked():
    wrong = record(OURS, [1.0]) | {"check": [0.7, 0.6, 0.5, 0.1]}
    (row,) = table.make_rows([wrong, record("torch", [2.0])], MACHINE)
    assert row["mismatch"]
    assert "MISMATCH" in table.format_row(row)
    broken = record(OURS, [1.0]) | {"check": [math.nan] * 4}
    assert table.make_rows([broken, record("torch", [2.0])], MACHINE)[0]["mismatch"]


def test_differences_are_relative_to_each_array():
    large, small = [1e3, 0, 0, 0, 0, 0, 1e3], [1e-3, 0, 0, 0, 0, 0, 1e-3]
    off = [*large, *small[:-1], 2e-3]
    assert table.difference(off, [*large, *small]) == pytest.approx(1.0)
    assert table.difference([], []) is None
    assert table.difference([1.0], [1.0, 2.0]) is None


def test_a_row_without_peers_and_one_without_us():
    (row,) = table.make_rows([record(OURS, [1.0]), record("torch", [1.0], workload="T4")], MACHINE)
    assert row["best"] is None
    assert row["ratio"] is None
    assert table.format_row(row)


def test_every_table_row_is_json():
    rows = table.make_rows([record(OURS, [1.0]), record("torch", [2.0])], MACHINE)
    assert json.loads(json.dumps(rows)) == rows


def test_limits_take_the_fastest_unit_that_there_is():
    assert least_milliseconds(1e9, 0, "fp32", MACHINE) == pytest.approx(1.0)
    assert least_milliseconds(1e9, 0, "bf16", MACHINE) == pytest.approx(0.5)
    assert least_milliseconds(1e9, 0, "bf16", MACHINE | {"amx": 1e13}) == pytest.approx(0.1)
    assert least_milliseconds(0, 4e7, "fp32", MACHINE) == pytest.approx(1.0)
    assert least_milliseconds(0, 0, "fp32", MACHINE) is None


def test_comparison_finds_what_became_slower():
    assert results.compare(rows_of(1.1, 2), rows_of(1, 2)) == ([], [])
    lines, slower = results.compare(rows_of(1.2, 2), rows_of(1, 2))
    assert slower == [("T1", "fp32")]
    assert "SLOWER" in lines[0]
    # a slower machine slows both
    assert results.compare(rows_of(3, 6), rows_of(1, 2)) == ([], [])
    lines, slower = results.compare(rows_of(0.5, 2), rows_of(1, 2))
    assert slower == []
    assert "faster" in lines[0]


def test_comparison_uses_the_peers_that_both_runs_had():
    old = table.make_rows([record(OURS, [1]), record("torch", [2]), record("jax", [1])], MACHINE)
    assert results.compare(rows_of(1, 2), old) == ([], [])
    alone = table.make_rows([record(OURS, [2.0])], MACHINE)
    lines, slower = results.compare(alone, old)
    assert slower == [("T1", "fp32")]  # by the limit's share
    lines, slower = results.compare([], old)
    assert slower == []
    assert "not measured" in lines[0]


def test_runs_are_stored_and_read(tmp_path: Path):
    rows = rows_of(1, 2)
    content = results.document(rows, [record(OURS, [1.0], versions={"mxpipe": "1"})], MACHINE, 2)
    path = results.store(content, tmp_path)
    assert results.newest(tmp_path) == path
    read = results.load(path)
    assert read["rows"] == rows
    assert read["versions"] == {"mxpipe": "1"}
    assert "milliseconds" not in read["records"][0]
    results.keep(content, tmp_path / "reference.json")
    assert "records" not in results.load(tmp_path / "reference.json")
    path.write_text("{}")
    with pytest.raises(SystemExit, match="format"):
        results.load(path)
    with pytest.raises(SystemExit, match="must be a stored run"):
        results.load(tmp_path / "none.json")


def test_notes_get_the_measured_table(tmp_path: Path):
    content = results.document(rows_of(1, 2), [], MACHINE, 2)
    path = tmp_path / "NOTES.md"
    path.write_text(f"# Title\n\n{notes.BEGIN}old\n{notes.END}\nafter\n")
    notes.write(content, path)
    notes.write(content, path)
    text = path.read_text()
    assert "old" not in text
    assert text.startswith("# Title\n\n")
    assert text.endswith("\nafter\n")
    assert text.count("| T1 | fp32 |") == 1
    with pytest.raises(ValueError, match="must hold"):
        notes.replace("no marks", "")


def test_our_notes_have_the_marks():
    assert notes.BEGIN in notes.NOTES.read_text()
    assert notes.END in notes.NOTES.read_text()


def test_later_rounds_leave_out_who_cannot_be_best():
    peers = [OURS, "torch", "torch_keep", "jax_keep", "openvino"]
    job = ("T1", "fp32")
    first = runner._order(peers, 0, {}, job)
    assert first == [OURS, "torch", "torch_keep", "jax_keep"]  # openvino does not train
    times = {OURS: 9.0, "torch": 2.0, "torch_keep": 1.0, "jax_keep": math.inf}
    assert sorted(runner._order(peers, 1, times, job)) == [OURS, "torch_keep"]
    assert runner._order(peers, 1, times, job)[0] != runner._order(peers, 2, times, job)[0]


def test_every_workload_has_data_and_a_program():
    for workload in WORKLOADS.values():
        assert workload.dtypes[0] == "fp32"
        assert workload.kind in ("train", "infer", "micro", "startup")
        assert workload.model in peer.MODULES
        assert set(table.TARGETS) <= set(WORKLOADS)
    shapes = [part.shape for part in WORKLOADS["T4"].batch_data()]
    assert shapes == [(64, 168, 8), (64, 24)]
    weights = WORKLOADS["T1"].params()
    assert list(weights)[:2] == ["fc0.weight", "fc0.bias"]
    assert np.abs(weights["fc0.weight"]).max() <= 0.125
    assert WORKLOADS["T1"].flops() == 6 * 256 * (64 * 256 + 256 * 256 + 256)


@pytest.mark.parametrize("path", sorted(ROOT.glob("benchmarks/peer*.py")), ids=lambda path: path.stem)
def test_our_programs_can_be_imported(path: Path):
    importlib.import_module(f"benchmarks.{path.stem}")


def test_data_depend_on_their_name_alone():
    once, again = WORKLOADS["T1"].batch_data(1), WORKLOADS["T1"].batch_data(1)
    assert all((a == b).all() for a, b in zip(once, again, strict=True))
    assert (WORKLOADS["T1"].batch_data(0)[0] != once[0]).any()


def test_peers_and_their_environment():
    assert set(USUAL) | set(QUICK) <= set(PEERS)
    assert "GLIBC_TUNABLES" in environment("torch_keep", 2)
    assert "GLIBC_TUNABLES" not in environment("torch", 2)
    assert environment("torch", 3)["OMP_NUM_THREADS"] == "3"


def test_a_process_measures_and_a_missing_peer_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    ours = runner.run_one(OURS, "M1a", "fp32", 1, 0.01)
    assert ours["status"] == "ok", ours
    assert len(ours["check"]) == 7
    assert len(ours["milliseconds"]) >= 3
    assert ours["step_peak_mb"] > 0
    monkeypatch.setattr("benchmarks.peers.VENVS", tmp_path)
    assert runner.run_one("torch", "M1a", "fp32", 1, 0.01)["status"] == "unsupported"


def test_no_process_starts_after_the_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "run_one", lambda *_: pytest.fail("started"))
    assert list(runner.run(runner.Plan([("T1", "fp32")], [OURS], 1, 1, 1.0, minutes=0.0))) == []


def test_what_became_slower_is_measured_again(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    plan = runner.Plan([("T1", "fp32")], [OURS], 1, 1, 1.0, 1.0)
    asked = []

    def measure(plan: runner.Plan, profiles: bool) -> dict:
        asked.append(plan)
        return {"rows": rows_of(1, 2)}

    monkeypatch.setattr(command, "measure", measure)
    old = {"rows": rows_of(1, 2)}
    assert command.compare({"rows": rows_of(1, 2)}, old, plan) == 0
    assert asked == []
    assert command.compare({"rows": rows_of(2, 2)}, old, plan) == 0
    assert asked[0].jobs == [("T1", "fp32")]
    assert asked[0].rounds == command.AGAIN
    assert command.compare({"rows": rows_of(2, 2)}, old, None) == 1
    assert "SLOWER" in capsys.readouterr().out


def test_notes_show_where_our_plans_spend_their_time():
    kinds = [
        {"op": "matmul", "kernel": "k", "steps": 3, "seconds": 9e-4, "flops": 900_000, "bytes": 9_000},
        {"op": "sum", "kernel": "k", "steps": 1, "seconds": 1e-6, "flops": 1, "bytes": 4},
    ]
    sizes = {"steps": 4, "flops": 900_001, "bytes": 9_004, "peak_bytes": 10_000, "arena_bytes": 5}
    content = results.document(rows_of(1, 2), [], MACHINE, 2)
    content["profiles"] = {"T1 fp32": sizes | {"seconds": 1e-3, "kinds": kinds}, "M1a fp32": None}
    text = notes.table(content)
    assert "**T1 fp32**: 4 steps" in text
    assert "| matmul: k | 3 | 0.9 | 90% | 1 | 0.0 |" in text
    assert "sum: k" not in text
    assert "M1a" not in text


def test_our_plans_are_profiled_in_a_process():
    profile = runner.profile("T1s", "fp32", 1)
    assert profile is not None
    assert profile["steps"] > 10
    assert profile["flops"] > 0.9 * WORKLOADS["T1s"].flops() * 2 / 3
    assert profile["kinds"][0]["seconds"] > 0
