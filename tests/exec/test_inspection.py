"""Plans as data: what is counted, when blocks of the arena live, profiles, drawings."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.inspection import PlanView
from mxpipe.inspection.counts import count_bytes, count_flops


def make_step() -> tuple[mx.gluon.TrainStep, mx.gluon.nn.HybridSequential]:
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(32, activation="relu", in_units=16), mx.gluon.nn.Dense(1, in_units=32))
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "adam")
    return mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer), net


def batch() -> tuple[mx.np.ndarray, mx.np.ndarray]:
    return mx.np.ones((64, 16)), mx.np.ones((64, 1))


def test_inspecting_a_step_trains_nothing():
    step, net = make_step()
    before = net[0].weight.data().asnumpy()
    plan = step.inspect(*batch())
    assert (net[0].weight.data().asnumpy() == before).all()
    assert step._trainer.optimizer.num_update == 0
    assert plan.runs == 0
    assert plan.seconds is None
    step(*batch())
    assert step._trainer.optimizer.num_update == 1


def test_matrix_work_and_inputs_are_counted():
    step, net = make_step()
    plan = step.inspect(*batch())
    matrix = sum(one.flops for one in plan.steps if one.op in ("matmul", "fully_connected"))
    # forward and weight gradient of both layers; the first one's input needs no gradient
    assert matrix == 2 * 64 * (2 * 16 * 32 + 3 * 32)
    parameters = sum(int(np.prod(p.shape)) for p in net.collect_params().values())
    least = 4 * (64 * 17 + 3 * parameters)  # batch, weights, two states of Adam
    assert least <= plan.input_bytes <= least + 64
    assert plan.peak_bytes >= plan.input_bytes + plan.arena_bytes


def test_blocks_of_the_arena_that_live_at_the_same_time_do_not_overlap():
    step, _ = make_step()
    plan = step.inspect(*batch())
    assert plan.arena
    for one in plan.arena:
        assert one.offset + one.bytes <= plan.arena_bytes - plan.scratch_bytes
        for other in plan.arena:
            if one is other or one.last <= other.first or other.last <= one.first:
                continue
            assert one.offset + one.bytes <= other.offset or other.offset + other.bytes <= one.offset


def test_sources_come_before_their_readers():
    step, _ = make_step()
    plan = step.inspect(*batch())
    assert any(one.sources for one in plan.steps)
    assert all(source < one.number for one in plan.steps for source in one.sources)


def test_a_profile_times_every_step_of_what_ran():
    step, _ = make_step()
    step(*batch())
    with mx.inspection.profile() as seen:
        for _ in range(4):
            step(*batch())
    step(*batch())
    (plan,) = seen.plans
    assert plan.runs == 4
    assert all(one.seconds is not None and one.seconds > 0 for one in plan.steps)
    assert plan.run_seconds is not None
    assert plan.seconds is not None
    assert 0 < plan.seconds <= plan.run_seconds * 1.001
    assert "GFLOP/s" in plan.table(by_time=True, limit=2)
    assert "and" in plan.table(by_time=True, limit=2).splitlines()[-1]
    assert "matmul" in plan.kinds()


def test_a_profile_sees_forward_and_backward_of_a_hybridized_block():
    net = mx.gluon.nn.Dense(4, in_units=3)
    net.initialize()
    net.hybridize()
    with mx.inspection.profile() as seen:
        with mx.autograd.record():
            output = net(mx.np.ones((2, 3)))
        output.backward()
    forward, backward = seen.plans[0], seen.plans[-1]
    assert [one.op for one in forward.steps] == ["fully_connected"]
    assert "matmul" in [one.op for one in backward.steps]


@pytest.mark.parametrize("suffix", ["svg", "html"])
def test_drawings_stand_alone(tmp_path: Path, suffix: str):
    step, _ = make_step()
    with mx.inspection.profile() as seen:
        step(*batch())
    for number, plan in enumerate([step.inspect(*batch()), seen.plans[0]]):
        file = tmp_path / f"plan{number}.{suffix}"
        plan.draw(file, "a <plan> & more")
        text = file.read_text()
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "a &lt;plan&gt; &amp; more" in text
        drawing = text[text.index("<svg") : text.index("</svg>") + 6]
        root = ElementTree.fromstring(drawing)
        rows = [node for node in root.iter() if node.tag.endswith("}g")]
        assert len(rows) == len(plan.steps)


def test_an_empty_plan_is_drawn(tmp_path: Path):
    plan = PlanView((), (), (), 0, 0, 0, 0, 0, 0, 0)
    plan.draw(tmp_path / "plan.svg")
    assert str(plan)


@pytest.mark.parametrize(
    ("op", "attributes", "inputs", "outputs", "expected"),
    [
        ("matmul", {"transpose_a": True}, [(5, 3), (5, 7)], [(3, 7)], 2 * 3 * 5 * 7),
        ("convolution", {}, [(2, 4, 8, 8), (6, 2, 3, 3)], [(2, 6, 8, 8)], 2 * (2 * 6 * 64) * 2 * 9),
        ("convolution_backward_data", {}, [(2, 6, 4, 4), (6, 4, 3, 3)], [(2, 4, 8, 8)], 2 * 192 * 36),
        ("convolution_backward_weights", {}, [(2, 4, 8, 8), (2, 6, 4, 4)], [(6, 4, 3, 3)], 2 * 192 * 36),
        ("attention", {}, [(2, 8, 3, 4, 16)], [(2, 8, 4, 16), (2, 4, 8)], 2 * 2 * 1024 * 8),
        ("attention", {"causal": True}, [(2, 8, 4, 16), (2, 6, 4, 16)], [(2, 8, 4, 16)], 2 * 1024 * 6),
        (
            "attention_backward",
            {},
            [(2, 8, 4, 16), (2, 8, 4, 16), (2, 4, 8), (2, 8, 3, 4, 16)],
            [(2, 8, 3, 4, 16)],
            2 * 5 * 1024 * 8,
        ),
        ("lstm", {}, [(5, 2, 3), (16, 3), (16, 4)], [(5, 2, 4)], 2 * 5 * 2 * 16 * 7),
        ("csr_matmul", {}, [(9,), (9,), (4,), (5, 6)], [(3, 6)], 2 * 9 * 6),
        ("dot_interaction", {}, [(2, 4), (2, 3, 4)], [(2, 10)], 2 * 2 * 6 * 4),
        ("transpose", {}, [(3, 4)], [(4, 3)], 0),
        ("sum", {}, [(3, 4)], [(3,)], 12),
    ],
)
def test_operations_are_counted_from_shapes(op, attributes, inputs, outputs, expected):
    step = {
        "op": op,
        "attributes": attributes,
        "operations": 0,
        "inputs": [{"shape": shape} for shape in inputs],
        "outputs": [{"shape": shape} for shape in outputs],
    }
    assert count_flops(step) == expected


def test_of_a_table_the_gathered_rows_are_counted():
    table, ids, rows = {"bytes": 4000}, {"bytes": 16}, {"bytes": 80}
    assert count_bytes({"op": "take_rows", "inputs": [table, ids], "outputs": [rows]}) == 176
    assert count_bytes({"op": "scatter_rows", "inputs": [table, ids, rows], "outputs": [table]}) == 176
    assert count_bytes({"op": "matmul", "inputs": [table, ids], "outputs": [rows]}) == 4096
