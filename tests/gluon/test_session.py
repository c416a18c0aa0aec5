"""Inference sessions: any batch, many threads, parameters that are mapped and never written."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import threading

import numpy
import pytest

import mxpipe as mx
from mxpipe import _native, np, npx
from mxpipe.errors import BlockError, OperatorError
from mxpipe.model.safetensors import read_safetensors, write_safetensors


@pytest.fixture
def net():
    mx.random.seed(5)
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Dense(16, activation="relu", in_units=6), mx.gluon.nn.Dense(2, in_units=16))
    net.initialize(mx.init.Xavier())
    return net


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 8, 9, 17, 100])
def test_any_number_of_rows(net, rows):
    session = net.compile(np.ones((1, 6)), sizes=(1, 8, 32))
    x = numpy.random.default_rng(rows).normal(size=(rows, 6)).astype("float32")
    result = session(x)
    assert isinstance(result, numpy.ndarray)
    assert result.shape == (rows, 2)
    numpy.testing.assert_allclose(result, net(np.array(x)).asnumpy(), rtol=1e-4, atol=1e-6)
    assert type(session(np.array(x))) is np.ndarray


@pytest.mark.parametrize("rows", [1, 5, 8, 9, 31, 100, 5000])
def test_split_wastes_at_most_as_much_as_it_computes(net, rows):
    session = net.compile(np.ones((1, 6)))
    parts = session.split(rows)
    assert set(parts) <= set(session.sizes)
    assert rows <= sum(parts) <= 2 * rows


def test_a_session_keeps_its_parameters(net):
    session = net.compile(np.ones((1, 6)))
    x = np.random.normal(size=(8, 6))
    before = session(x).asnumpy()
    net[0].weight.set_data(np.zeros((16, 6)))
    assert (session(x).asnumpy() == before).all()


def test_bfloat16_is_close(net):
    x = np.random.normal(size=(64, 6))
    session = net.compile(x, precision="bfloat16")
    assert session.precision == "bfloat16"
    numpy.testing.assert_allclose(session(x).asnumpy(), net(x).asnumpy(), rtol=0.05, atol=0.05)


def test_many_threads_get_the_same_bytes(net):
    session = net.compile(np.ones((1, 6)), sizes=(1, 8, 64))
    inputs = [
        numpy.random.default_rng(rows).normal(size=(rows, 6)).astype("float32") for rows in range(1, 60)
    ]
    expected = [net.compile(np.ones((1, 6)), sizes=(1, 8, 64))(x).tobytes() for x in inputs]
    wrong: list[int] = []

    def work(start: int) -> None:
        for turn in range(3 * len(inputs)):
            index = (start + turn) % len(inputs)
            if session(inputs[index]).tobytes() != expected[index]:
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(start * 7,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_does_not_fit_is_refused(net):
    session = net.compile(np.ones((1, 6)))
    with pytest.raises(BlockError, match=r"inputs must be"):
        session(np.ones((2, 5)))
    with pytest.raises(BlockError, match=r"1 inputs; got 2"):
        session(np.ones((2, 6)), np.ones((2, 6)))
    with pytest.raises(BlockError, match=r"inputs must be"):
        session(np.ones((2, 6), dtype="int32"))
    with pytest.raises(BlockError, match=r"sizes must be"):
        net.compile(np.ones((1, 6)), sizes=())

    class Summed(mx.gluon.HybridBlock):
        def forward(self, x):
            return npx.relu(x).sum(axis=0)

    with pytest.raises(BlockError, match=r"must have 4097 rows"):
        Summed().compile(np.ones((2, 3)))


def test_mapped_arrays_lie_in_the_file_and_refuse_writes(tmp_path):
    path = tmp_path / "w.safetensors"
    values = numpy.random.default_rng(1).normal(size=(64, 64)).astype("float32")
    write_safetensors(path, {"weight": values})
    mapped = _native.map_array(read_safetensors(path).tensors["weight"])
    assert (mapped.asnumpy() == values).all()
    ranges = [
        [int(end, 16) for end in line.split()[0].split("-")]
        for line in pathlib.Path("/proc/self/maps").read_text().splitlines()
        if line.endswith("w.safetensors") and " r--" in line
    ]
    assert any(begin <= mapped.address < end for begin, end in ranges)
    with pytest.raises(OperatorError, match="must not be written"):
        mapped[:] = 0.0
    with pytest.raises(OperatorError, match="must not be written"):
        mapped += 1.0
    assert memoryview(mapped).readonly

    def overwrite():
        _native.assign(mapped, mapped * 2.0)
        return mapped * 1.0

    traced = _native.trace(overwrite, [])
    with pytest.raises(OperatorError, match="must not be written"):
        traced.compile()()
    assert (mapped.asnumpy() == values).all()
    with pytest.raises(OperatorError, match="read-only"):
        _native.map_array(values)


SHARING = """
import sys, numpy, mxpipe as mx
from mxpipe import _native
from mxpipe.model.safetensors import read_safetensors

weight = _native.map_array(read_safetensors(sys.argv[1]).tensors["weight"])
print(float(weight.sum()), flush=True)
sys.stdin.readline()
lines = open("/proc/self/smaps").read().splitlines()
at = next(i for i, line in enumerate(lines) if line.endswith("w.safetensors"))
fields = dict(line.split(":", 1) for line in lines[at + 1 : at + 20])
print(int(fields["Rss"].split()[0]), int(fields["Pss"].split()[0]), int(fields["Private_Dirty"].split()[0]))
"""


def test_processes_share_the_pages(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, {"weight": numpy.ones((1024, 1024), "float32")})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SHARING, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline().strip() == "1048576.0"
    results = [process.communicate("go\n", timeout=60)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes)
    rss, pss, dirty = map(int, results[0].split())
    assert rss >= 4096
    assert pss <= rss * 3 // 4  # a share of the pages only
    assert dirty == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_networks_of_images_and_tokens_take_any_batch(precision):
    mx.random.seed(1)
    generator = numpy.random.default_rng(0)
    encoder = mx.gluon.model_zoo.transformer_encoder(
        50, layers=1, units=16, num_heads=2, hidden_units=32, max_length=12
    )
    tokens = generator.integers(0, 50, (5, 12))
    residual = mx.gluon.model_zoo.vision.resnet18_v1(classes=3, thumbnail=True)
    images = generator.standard_normal((5, 3, 8, 8)).astype("float32")
    for net, batch in ((encoder, tokens), (residual, images)):
        net.initialize(mx.init.Xavier())
        expected = net(np.array(batch)).asnumpy()
        session = net.compile(np.array(batch[:1]), sizes=(1, 4), precision=precision)
        scale = numpy.abs(expected).max()
        tolerance = 1e-4 if precision == "float32" else 5e-2
        for rows in (1, 3, 5):
            numpy.testing.assert_allclose(session(batch[:rows]), expected[:rows], atol=tolerance * scale)
