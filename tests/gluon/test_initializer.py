"""Initializers: moments, bounds, determinism."""

from __future__ import annotations

import numpy as np
import pytest

import mxpipe as mx
from mxpipe.errors import SpecificationError

SHAPE = (400, 300)


@pytest.mark.parametrize(
    ("init", "deviation", "bound"),
    [
        (mx.init.Uniform(0.3), 0.3 / 3**0.5, 0.3),
        (mx.init.Normal(0.2), 0.2, None),
        (mx.init.TruncNorm(0.0, 0.5), 0.5 * 0.8796, 1.0),
        (mx.init.Xavier(), (3 / 350) ** 0.5 / 3**0.5, (3 / 350) ** 0.5),
        (mx.init.Xavier("gaussian", "in", 2), (2 / 300) ** 0.5, None),
        (mx.init.MSRAPrelu("out", 0.0), (2 / 400) ** 0.5, None),
    ],
)
def test_moments(init, deviation, bound):
    mx.random.seed(1)
    values = init("weight", SHAPE).asnumpy()
    assert values.dtype == np.float32
    assert abs(values.mean()) < 4 * deviation / values.size**0.5
    assert values.std() == pytest.approx(deviation, rel=0.01)
    if bound is not None:
        assert np.abs(values).max() <= bound * (1 + 1e-6)
    mx.random.seed(1)
    np.testing.assert_array_equal(init("weight", SHAPE).asnumpy(), values)


def test_constants():
    assert (mx.init.Zero()("w", (3,)).asnumpy() == 0).all()
    assert (mx.init.One()("w", (3,), "int64").asnumpy() == 1).all()
    assert mx.init.Constant([[1, 2]])("w", (1, 2), "float64").asnumpy().tolist() == [[1.0, 2.0]]
    with pytest.raises(SpecificationError, match="shape"):
        mx.init.Constant([1, 2])("w", (3,))


def test_create():
    assert isinstance(mx.init.create("xavier"), mx.init.Xavier)
    assert isinstance(mx.init.create("zeros"), mx.init.Zero)
    assert isinstance(mx.init.create(None), mx.init.Uniform)
    with pytest.raises(SpecificationError, match="must be one of"):
        mx.init.create("best")
    with pytest.raises(SpecificationError, match="two axes"):
        mx.init.Xavier()("bias", (3,))
