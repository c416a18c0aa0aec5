"""Three doors to the same numbers: eager, hybridized, and the whole step compiled."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import BlockError, ModelFormatError, MxpipeError
from mxpipe.gluon import nn

ROWS, COLUMNS = 64, 6


def data(seed=0, rows=ROWS):
    random = np.random.default_rng(seed)
    x = random.standard_normal((rows, COLUMNS)).astype(np.float32)
    y = (x @ np.arange(1, COLUMNS + 1) / COLUMNS + 0.3 * random.standard_normal(rows) > 0).astype(np.float32)
    return mx.np.array(x), mx.np.array(y)


def network(dropout=0.2, norm=True):
    net = nn.HybridSequential()
    net.add(nn.Dense(12, activation="relu"))
    if norm:
        net.add(nn.BatchNorm())
    net.add(nn.Dropout(dropout), nn.Dense(1))
    mx.random.seed(9)
    net.initialize(mx.init.Xavier())
    net(data()[0])
    return net


def assert_same_bits(net, other):
    for name, parameter in other.collect_params().items():
        ours = net.collect_params()[name].data().asnumpy()
        np.testing.assert_array_equal(ours, parameter.data().asnumpy(), err_msg=name)


def train(door, optimizer="adam", steps=5, arguments=None, dropout=0.2):
    net = network(dropout)
    loss_function = mx.gluon.loss.SigmoidBCELoss()
    trainer = mx.gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.05} | (arguments or {}))
    if door == "hybrid":
        net.hybridize()
        loss_function.hybridize()
    step = mx.gluon.TrainStep(net, loss_function, trainer)
    losses = []
    mx.random.seed(1)
    for number in range(steps):
        x, y = data(number, rows=ROWS if number != 3 else ROWS // 2)
        if door == "step":
            loss = step(x, y)
        else:
            with mx.autograd.record():
                loss = loss_function(net(x), y)
            loss.backward()
            trainer.step(x.shape[0])
        losses.append(loss.asnumpy())
    return net, trainer, losses


OPTIMIZERS = [
    ("sgd", {"momentum": 0.9, "wd": 0.01}),
    ("adam", {"wd": 0.01}),
    ("adamw", {"wd": 0.1, "clip_gradient": 0.01}),
    ("adagrad", {}),
]


@pytest.mark.parametrize(("optimizer", "arguments"), OPTIMIZERS, ids=[name for name, _ in OPTIMIZERS])
@pytest.mark.parametrize("door", ["hybrid", "step"])
def test_doors_agree(door, optimizer, arguments):
    eager, _, eager_losses = train("eager", optimizer, arguments=arguments)
    net, _, losses = train(door, optimizer, arguments=arguments)
    for ours, theirs in zip(losses, eager_losses, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_bits(net, eager)


@pytest.mark.parametrize("door", ["eager", "hybrid", "step"])
def test_same_seed_same_bits(door):
    first, _, first_losses = train(door)
    second, _, second_losses = train(door)
    for ours, theirs in zip(first_losses, second_losses, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert_same_bits(second, first)


@pytest.mark.parametrize("door", ["eager", "hybrid", "step"])
def test_learns(door):
    _, _, losses = train(door, steps=40, dropout=0.0)
    assert losses[-1].mean() < 0.5 * losses[0].mean()


def test_logistic_regression_finds_the_optimum():
    from sklearn.linear_model import LogisticRegression

    x, y = data(rows=400)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x.asnumpy(), y.asnumpy())
    net = mx.gluon.model_zoo.logistic_regression(COLUMNS)
    net.initialize()
    step = mx.gluon.TrainStep(
        net,
        mx.gluon.loss.SigmoidBCELoss(),
        mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 2.0, "momentum": 0.9}),
    )
    for _ in range(400):
        step(x, y)
    np.testing.assert_allclose(
        net.wide_numeric.weight.data().asnumpy(), reference.coef_, rtol=2e-2, atol=1e-3
    )


def test_schedule_makes_no_new_plan():
    traces = []

    class Counted(nn.Dense):
        def forward(self, x):
            traces.append(1)
            return super().forward(x)

    net = Counted(1, in_units=COLUMNS)
    net.initialize()
    schedule = mx.lr_scheduler.FactorScheduler(1, 0.5, base_lr=1.0)
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 1.0, "lr_scheduler": schedule})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)
    rates = []
    for number in range(4):
        step(*data(number))
        rates.append(trainer.learning_rate)
    assert rates == [1.0, 0.5, 0.25, 0.125]
    assert len(traces) == 1
    net.weight.lr_mult = 0.0
    before = net.weight.data().asnumpy()
    step(*data())
    np.testing.assert_array_equal(net.weight.data().asnumpy(), before)
    assert trainer.optimizer.num_update == 5


def test_frozen_parameters_stay():
    net = network()
    net[0].setattr("grad_req", "null")
    before = net[0].weight.data().asnumpy()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.5})
    mx.gluon.TrainStep(net, mx.gluon.loss.SigmoidBCELoss(), trainer)(*data())
    np.testing.assert_array_equal(net[0].weight.data().asnumpy(), before)
    assert not np.array_equal(net[-1].weight.data().asnumpy(), network()[-1].weight.data().asnumpy())


def test_kinds_of_steps_can_be_mixed():
    """The compiled step and the eager one share optimizer state and counts."""
    pure, _, _ = train("step", steps=4, dropout=0.0)
    net = network(0.0)
    loss_function = mx.gluon.loss.SigmoidBCELoss()
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.05})
    step = mx.gluon.TrainStep(net, loss_function, trainer)
    for number in range(4):
        x, y = data(number, rows=ROWS if number != 3 else ROWS // 2)
        if number % 2:
            step(x, y)
        else:
            with mx.autograd.record():
                loss = loss_function(net(x), y)
            loss.backward()
            trainer.step(x.shape[0])
    assert_same_bits(net, pure)


@pytest.mark.parametrize("door", ["eager", "step"])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_resume_is_exact(door, optimizer, tmp_path):
    arguments = {"momentum": 0.9} if optimizer == "sgd" else {}

    def run(steps, net, trainer):
        loss_function = mx.gluon.loss.SigmoidBCELoss()
        step = mx.gluon.TrainStep(net, loss_function, trainer)
        for number in steps:
            x, y = data(number)
            if door == "step":
                step(x, y)
                continue
            with mx.autograd.record():
                loss = loss_function(net(x), y)
            loss.backward()
            trainer.step(ROWS)

    def make():
        net = network()
        return net, mx.gluon.Trainer(net.collect_params(), optimizer, {"learning_rate": 0.05} | arguments)

    undisturbed, trainer = make()
    mx.random.seed(4)
    run(range(6), undisturbed, trainer)

    net, trainer = make()
    mx.random.seed(4)
    run(range(3), net, trainer)
    net.save_parameters(tmp_path / "net")
    trainer.save_states(tmp_path / "trainer")
    random_state = mx.random.get_state()

    resumed, trainer = make()
    resumed.load_parameters(tmp_path / "net")
    trainer.load_states(tmp_path / "trainer")
    mx.random.set_state(random_state)
    run(range(3, 6), resumed, trainer)
    assert_same_bits(resumed, undisturbed)


def test_states_of_another_optimizer_are_refused(tmp_path):
    net = network()
    mx.gluon.Trainer(net.collect_params(), "adam").save_states(tmp_path / "adam")
    with pytest.raises(ModelFormatError, match="SGD"):
        mx.gluon.Trainer(net.collect_params(), "sgd").load_states(tmp_path / "adam")
    with pytest.raises(ModelFormatError, match="differ"):
        mx.gluon.Trainer(net[0].collect_params(), "adam").load_states(tmp_path / "adam")


def test_stale_gradients_are_refused():
    net = network()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
    with pytest.raises(BlockError, match="stale"):
        trainer.step(1)
    with mx.autograd.record():
        loss = net[0](data()[0]).sum()
    loss.backward()
    with pytest.raises(BlockError, match=r"1\.gamma"):
        trainer.step(1)
    before = net[-1].weight.data().asnumpy()
    trainer.step(1, ignore_stale_grad=True)
    np.testing.assert_array_equal(net[-1].weight.data().asnumpy(), before)
    with pytest.raises(BlockError, match="stale"):
        trainer.step(1)


def test_a_step_that_fails_counts_nothing():
    net = nn.Embedding(4, 2, sparse_grad=True)
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "adam")
    step = mx.gluon.TrainStep(net, lambda rows, label: (rows.sum(axis=1) - label) ** 2, trainer)
    step(mx.np.array([1, 2], dtype="int32"), mx.np.ones((2,)))
    weight = net.weight.data().asnumpy()
    with pytest.raises(MxpipeError):
        step(mx.np.array([1, 9], dtype="int32"), mx.np.ones((2,)))
    np.testing.assert_array_equal(net.weight.data().asnumpy(), weight)
    assert trainer.optimizer.num_update == 1


def test_bad_arguments():
    net = network()
    with pytest.raises(BlockError, match="optimizer_params"):
        mx.gluon.Trainer(net.collect_params(), mx.optimizer.SGD(), {"learning_rate": 1.0})
    with pytest.raises(BlockError, match="kvstore"):
        mx.gluon.Trainer(net.collect_params(), "sgd", kvstore="dist_sync")
    with pytest.raises(BlockError, match="Parameters"):
        mx.gluon.Trainer([1], "sgd")
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
    with pytest.raises(BlockError, match="label"):
        mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)(data()[0])


def test_deferred_parameters_are_settled_by_the_first_step():
    net = nn.HybridSequential()
    net.add(nn.Dense(3), nn.Dense(1))
    net.initialize()
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd")
    loss = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)(*data())
    assert loss.shape == (ROWS,)
    assert net[0].weight.shape == (3, COLUMNS)


def test_clip_global_norm():
    arrays = [mx.np.array([3.0, 0.0]), mx.np.array([[4.0]])]
    assert mx.gluon.utils.clip_global_norm(arrays, 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(arrays[1].asnumpy(), [[0.8]], rtol=1e-5)
    with pytest.raises(BlockError, match="finite"):
        mx.gluon.utils.clip_global_norm([mx.np.array([np.inf])], 1.0)


def test_split_data():
    parts = mx.gluon.utils.split_data(mx.np.arange(6).reshape((6, 1)), 3)
    assert [part.shape for part in parts] == [(2, 1)] * 3
    with pytest.raises(BlockError, match="divide"):
        mx.gluon.utils.split_data(mx.np.ones((5, 1)), 2)
