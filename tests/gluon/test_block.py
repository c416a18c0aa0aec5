"""Blocks: structure, names, hooks, files."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import BlockError, ModelFormatError
from mxpipe.gluon import nn


class Tower(mx.gluon.HybridBlock):
    def __init__(self):
        super().__init__()
        self.features = nn.HybridSequential()
        self.features.add(nn.Dense(4, activation="relu"), nn.BatchNorm(), nn.Dropout(0.5))
        self.output = nn.Dense(2, use_bias=False)
        self.scale = mx.gluon.Parameter(shape=(1,), init="ones")

    def forward(self, x):
        return self.output(self.features(x)) * self.scale.data()


NAMES = [
    "scale",
    "features.0.weight",
    "features.0.bias",
    "features.1.gamma",
    "features.1.beta",
    "features.1.running_mean",
    "features.1.running_var",
    "output.weight",
]


def initialized(net):
    mx.random.seed(3)
    net.initialize(mx.init.Xavier())
    net(mx.np.ones((2, 3)))
    return net


def test_structural_names_and_selection():
    net = Tower()
    assert list(net.collect_params()) == NAMES
    assert list(net.collect_params(".*weight")) == ["features.0.weight", "output.weight"]
    assert list(net.collect_params("output")) == ["output.weight"]
    assert list(net.params) == ["scale"]
    assert net.params["scale"].name == "scale"


def test_repr_shows_the_tree():
    assert repr(Tower()) == "\n".join([
        "Tower(",
        "  (features): HybridSequential(",
        "    (0): Dense(None -> 4, Activation(relu))",
        "    (1): BatchNorm(axis=1, eps=1e-05, momentum=0.9, in_channels=None)",
        "    (2): Dropout(rate=0.5, axes=())",
        "  )",
        "  (output): Dense(None -> 2, linear)",
        ")",
    ])  # fmt: skip


def test_attributes_keep_their_kind():
    net = Tower()
    with pytest.raises(BlockError, match="must stay a Block"):
        net.output = 3
    with pytest.raises(BlockError, match="HybridBlocks"):
        net.other = nn.Sequential()

    class Early(mx.gluon.Block):
        def __init__(self):
            self.layer = nn.Dense(1)

    with pytest.raises(BlockError, match="super"):
        Early()


def test_blocks_in_a_plain_list_are_warned_about():
    class Hidden(mx.gluon.Block):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Dense(1)]

    with pytest.warns(UserWarning, match="not registered"):
        Hidden().collect_params()


def test_own_parameters_with_unknown_shape_need_infer_shape():
    class Scale(mx.gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.factor = mx.gluon.Parameter(shape=(0,), allow_deferred_init=True, init="ones")

        def forward(self, x):
            return x * self.factor.data()

    class Inferring(Scale):
        def infer_shape(self, x):
            self.factor.shape = x.shape[1:]

    broken = Scale()
    broken.initialize()
    with pytest.raises(BlockError, match="infer_shape"):
        broken(mx.np.ones((2, 3)))
    net = Inferring()
    net.initialize()
    assert net(mx.np.ones((2, 3))).shape == (2, 3)


def test_hooks():
    net = initialized(Tower())
    calls = []
    before = net.register_forward_pre_hook(lambda block, inputs: calls.append(("before", inputs[0].shape)))
    after = net.output.register_forward_hook(lambda block, _, outputs: calls.append(("after", outputs.shape)))
    net(mx.np.ones((5, 3)))
    assert calls == [("before", (5, 3)), ("after", (5, 2))]
    before.detach()
    with after:
        net(mx.np.ones((5, 3)))
    net(mx.np.ones((5, 3)))
    assert len(calls) == 3


def test_hooks_inside_do_not_run_in_a_plan():
    net = initialized(Tower())
    net.output.register_forward_hook(lambda *_: None)
    with pytest.warns(UserWarning, match="hooks"):
        net.hybridize()


def test_apply_setattr_zero_grad():
    net = initialized(Tower())
    seen = []
    net.apply(lambda block: seen.append(type(block).__name__))
    assert seen[-1] == "Tower"
    assert len(seen) == 7
    net.setattr("lr_mult", 0.5)
    assert {parameter.lr_mult for parameter in net.collect_params().values()} == {0.5}


def test_summary(capsys):
    net = initialized(Tower())
    net.summary(mx.np.ones((2, 3)))
    printed = capsys.readouterr().out
    assert "Dense-2" in printed
    assert "(2, 4)" in printed
    assert "Parameters: 41, trained: 33" in printed
    net.hybridize()
    with pytest.raises(BlockError, match="hybridize"):
        net.summary(mx.np.ones((2, 3)))


def test_cast():
    net = initialized(Tower())
    net.cast("float64")
    assert net(mx.np.ones((2, 3), dtype="float64")).dtype == np.float64


def test_save_and_load(tmp_path):
    net, other = initialized(Tower()), Tower()
    net.save_parameters(tmp_path / "net.safetensors")
    other.load_parameters(tmp_path / "net.safetensors")
    x = mx.np.array(np.random.default_rng(0).standard_normal((4, 3)), dtype="float32")
    np.testing.assert_array_equal(net(x).asnumpy(), other(x).asnumpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_save_and_load_other_types(dtype, tmp_path):
    net, other = nn.Dense(3, in_units=4), nn.Dense(3, in_units=4)
    for item in (net, other):
        item.initialize()
        item.cast(dtype)
    net.save_parameters(tmp_path / "net")
    other.load_parameters(tmp_path / "net")
    assert str(other.weight.data().dtype) == dtype
    np.testing.assert_array_equal(other.weight.data().asnumpy(), net.weight.data().asnumpy())


def test_load_refuses_what_does_not_fit_and_changes_nothing(tmp_path):
    file = tmp_path / "net.safetensors"
    net = initialized(Tower())
    net.save_parameters(file)
    small = nn.Dense(1, in_units=1)
    small.initialize()
    before = small.weight.data().asnumpy()
    with pytest.raises(BlockError, match="lacks weight, bias"):
        small.load_parameters(file)
    with pytest.raises(BlockError, match="only parameters of this block"):
        small.load_parameters(file, allow_missing=True)
    small.load_parameters(file, allow_missing=True, ignore_extra=True)
    wrong = nn.HybridSequential()
    wrong.add(nn.Dense(1, in_units=2), nn.Dense(1, in_units=1))
    wrong.initialize()
    values = {"0.weight": np.ones((1, 2), np.float32), "0.bias": np.ones(1, np.float32)}
    with pytest.raises(BlockError, match=r"1\.weight must have shape"):
        wrong.load_dict(values | {"1.weight": np.ones((1, 3), np.float32), "1.bias": np.ones(1, np.float32)})
    assert (wrong[0].bias.data().asnumpy() == 0).all()
    np.testing.assert_array_equal(small.weight.data().asnumpy(), before)
    doubles = {"weight": np.ones((1, 1)), "bias": np.ones(1)}
    with pytest.raises(BlockError, match="cast_dtype"):
        small.load_dict(doubles)
    small.load_dict(doubles, cast_dtype=True)
    assert small.weight.data().dtype == np.float32
    small.load_dict(doubles, cast_dtype=True, dtype_source="saved")
    assert small.weight.data().dtype == np.float64
    (tmp_path / "short").write_bytes(file.read_bytes()[:-3])
    with pytest.raises(ModelFormatError, match="short"):
        initialized(Tower()).load_parameters(tmp_path / "short")


def test_shared_parameters(tmp_path):
    first = nn.Dense(2, in_units=2)
    second = nn.Dense(2, in_units=2).share_parameters(first.collect_params())
    net = nn.HybridSequential()
    net.add(first, second)
    net.initialize()
    assert second.weight is first.weight
    trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 1.0})
    before = first.weight.data().asnumpy()
    with mx.autograd.record():
        loss = net(mx.np.ones((1, 2))).sum()
    loss.backward()
    gradient = first.weight.grad().asnumpy()
    trainer.step(1)
    np.testing.assert_allclose(first.weight.data().asnumpy(), before - gradient, rtol=1e-6)
    net.save_parameters(tmp_path / "shared", deduplicate=True)
    net.load_parameters(tmp_path / "shared")


def test_containers():
    net = nn.HybridSequential()
    net.add(nn.Dense(2), nn.Dense(3), nn.Identity())
    assert len(net) == 3
    assert isinstance(net[1:], nn.HybridSequential)
    assert net[1:][0] is net[1]
    both = nn.HybridConcatenate(axis=1)
    both.add(nn.Identity(), nn.HybridLambda(lambda x: x * 2), nn.HybridLambda("exp"))
    result = both(mx.np.zeros((1, 2))).asnumpy()
    assert result.tolist() == [[0, 0, 0, 0, 1, 1]]
    plain = nn.Sequential()
    plain.add(nn.Lambda(lambda x: (x, x + 1)), nn.Lambda(lambda x, y: x + y))
    assert plain(mx.np.ones((1,))).item() == 3.0
    with pytest.raises(BlockError, match=r"mx\.np or mx\.npx"):
        nn.Lambda("system")
