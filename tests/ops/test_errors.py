"""Bad calls say which op, what must hold, and what was got."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
from cases import ROWS
from rows import Row, draw

import mxpipe as mx
from mxpipe import _native
from mxpipe.errors import OperatorError

np, npx = mx.np, mx.npx
F, I = np.ones((2, 3)), np.array([0, 1])  # noqa: E741

ERRORS: list[tuple[str, Callable[[], Any]]] = [
    (
        "[add] shapes must match or broadcast; got shape (2, 3) and (2, 4).",
        lambda: np.add(F, np.ones((2, 4))),
    ),
    ("[subtract] inputs must be numbers; got bool.", lambda: np.subtract(F > 0, F > 0)),
    ("[matmul] columns of a must equal rows of b; got shape (2, 3) and (2, 3).", lambda: np.matmul(F, F)),
    ("[matmul] a and b must have at least 1 axis; got shape (2, 3) and ().", lambda: np.matmul(F, 1.0)),
    (
        "[fully_connected] x and weight must have as many columns; got shape (2, 3) and (4, 5).",
        lambda: npx.fully_connected(F, np.ones((4, 5))),
    ),
    (
        "[fully_connected] bias must hold one number for each row of weight; got shape (3,) and (4, 3).",
        lambda: npx.fully_connected(F, np.ones((4, 3)), np.ones(3)),
    ),
    (
        "[fully_connected] inputs must have one dtype; got float32 and float64.",
        lambda: npx.fully_connected(F, np.ones((4, 3), dtype="float64")),
    ),
    ("[sum] axis must lie in [-2, 2); got 2.", lambda: np.sum(F, axis=2)),
    ("[sum] axis must name each axis once; got (0, -2).", lambda: np.sum(F, axis=(0, -2))),
    ("[max] axes reduced must not be empty; got shape (0, 3).", lambda: np.max(np.zeros((0, 3)), axis=0)),
    ("[argmax] axes reduced must not be empty; got shape (0,).", lambda: np.argmax(np.zeros(0))),
    ("[mean] x must be of a floating dtype; got int64.", lambda: _native.invoke("mean", [I], {"axis": 0})),
    (
        "[reshape] the number of elements must stay the same; got shape (2, 3) and [4, 2].",
        lambda: np.reshape(F, (4, 2)),
    ),
    (
        "[reshape] shape must hold sizes, at most one -1, and -2 only where x has an axis; got [-1, -1] "
        "for shape (2, 3).",
        lambda: np.reshape(F, (-1, -1)),
    ),
    (
        "[transpose] axes must name each axis once; got [0, 0] for shape (2, 3).",
        lambda: np.transpose(F, (0, 0)),
    ),
    (
        "[concatenate] shapes must agree but along axis 0; got shape (2, 3) and (2, 4).",
        lambda: np.concatenate([F, np.ones((2, 4))]),
    ),
    ("[concatenate] there must be at least one array; got none.", lambda: np.concatenate([])),
    ("[broadcast_to] x must broadcast to (2, 2); got shape (2, 3).", lambda: np.broadcast_to(F, (2, 2))),
    ("[squeeze] axis 0 must have size 1; got shape (2, 3).", lambda: np.squeeze(F, 0)),
    (
        "[split] the size of axis 1 must be a multiple of the number of parts; got shape (2, 3) and 2 parts.",
        lambda: np.split(F, 2, axis=1),
    ),
    ("[take] indices must be of an integer dtype; got float32.", lambda: np.take(F, np.ones(2))),
    ("[take]", lambda: np.take(F, np.array([2]), axis=0)),
    ("[embedding]", lambda: npx.embedding(np.array([2]), F)),
    ("[embedding]", lambda: npx.embedding(np.array([-1]), F)),
    ("[embedding] weight must fit input_dim=9; got shape (2, 3).", lambda: npx.embedding(I, F, input_dim=9)),
    ("[embedding] weight must have 2 axes; got shape (3,).", lambda: npx.embedding(I, np.ones(3))),
    ("[pick]", lambda: npx.pick(F, np.array([0, 3]))),
    (
        "[pick] index must have the shape of x without axis 1; got shape (3,) for (2, 3).",
        lambda: npx.pick(F, np.array([0, 1, 2])),
    ),
    ("[scatter_rows]", lambda: npx.scatter_rows(F, np.array([5]), np.ones((1, 3)))),
    (
        "[scatter_rows] rows must be of type float32(2, 3); got float32(2, 4).",
        lambda: npx.scatter_rows(F, I, np.ones((2, 4))),
    ),
    ("[softmax] x must be of a floating dtype; got int64.", lambda: npx.softmax(I)),
    ("[softmax] axis must lie in [-2, 2); got 5.", lambda: npx.softmax(F, axis=5)),
    ("[softmax_cross_entropy]", lambda: npx.softmax_cross_entropy(F, np.array([0, 3]))),
    (
        "[softmax_cross_entropy] labels must hold one id for each row of logits; got shape (3,) and (2, 3).",
        lambda: npx.softmax_cross_entropy(F, np.array([0, 1, 2])),
    ),
    (
        "[layer_norm] gamma must have shape (3,); got (2,) for x of shape (2, 3).",
        lambda: npx.layer_norm(F, np.ones(2), np.ones(2)),
    ),
    (
        "[batch_norm] running_mean must have shape (3,); got (2,) for x of shape (2, 3).",
        lambda: npx.batch_norm(F, np.ones(3), np.ones(3), np.ones(2), np.ones(3)),
    ),
    (
        "[layer_norm_backward] mean and forward's must have the same dtype and shape; "
        "got float32(3,) and float32(2,).",
        lambda: _native.invoke("layer_norm_backward", [F, F, np.ones(3), np.ones(3), np.ones(3)], {}),
    ),
    (
        "[batch_norm] gamma must have shape (3,); got (2,) for x of shape (2, 3).",
        lambda: _native.invoke("batch_norm_backward", [F, F, np.ones(2), np.ones(2), np.ones(2)], {}),
    ),
    (
        "[slice] step must not be 0; got begin=[0, 0], end=[2, 3], step=[1, 0].",
        lambda: _native.invoke("slice", [F], {"begin": [0, 0], "end": [2, 3], "step": [1, 0]}),
    ),
    (
        "[slice] begin must lie inside the array; "
        "got begin=[-1, 0], end=[2, 3], step=[1, 1] for shape (2, 3).",
        lambda: _native.invoke("slice", [F], {"begin": [-1, 0], "end": [2, 3], "step": [1, 1]}),
    ),
    (
        "[slice_assign] value must be of type float32(1, 3) as the slice; got float32(3,).",
        lambda: _native.invoke(
            "slice_assign", [F, np.ones(3)], {"begin": [1, 0], "end": [2, 3], "step": [1, 1]}
        ),
    ),
    ("[dropout] p must lie in [0, 1]; got 1.5.", lambda: npx.dropout(F, 1.5)),
    (
        "[clip] a_min must be a whole number for integers; got 0.5.",
        lambda: _native.invoke("clip", [I], {"a_min": 0.5}),
    ),
    ("[full] shape must hold no negative number; got (-1,).", lambda: np.zeros(-1)),
    ("[random_normal] scale must be at least 0; got -1.", lambda: np.random.normal(0, -1, 3)),
    (
        "[random_uniform] dtype must be a floating one; got int32.",
        lambda: np.random.uniform(size=3, dtype="int32"),
    ),
    (
        "[randint] there must be 1 to 2**24 integers from low to high; got 3 and 3.",
        lambda: np.random.randint(3, 3),
    ),
    ("[array] device must be the CPU; got gpu(0).", lambda: np.array([1], device=mx.Device("gpu"))),
    ("[array] object must hold numbers in even lists; got:", lambda: np.array([[1], [1, 2]])),
    ("[activation] act_type must be one of relu, sigmoid,", lambda: npx.activation(F, "nothing")),
    ("[op] the op must be registered; got nothing.", lambda: _native.invoke("nothing", [], {})),
    ("[exp] attributes must be declared ones; got base.", lambda: _native.invoke("exp", [F], {"base": 2})),
    ("[sum] attribute axis must be given.", lambda: _native.invoke("sum", [F], {})),
    ("[add] must be called with 2 arrays; got 1.", lambda: _native.invoke("add", [F], {})),
    ("[one_hot] depth must be at least 0; got -1.", lambda: npx.one_hot(I, -1)),
]


def mutations(values: list[Any]) -> Iterator[list[Any]]:
    """The inputs with one of them longer, shorter, of one axis more or less, of another dtype, or missing."""
    for i, value in enumerate(values):
        others = [numpy.stack([value, value]), value[0] if value.shape[:1] > (0,) else value[None]]
        if value.ndim:
            others += [numpy.concatenate([value, value], -1), value[..., :-1], value[1:]]
        for dtype in ("float32", "int64", "bool", "float16", "uint8"):
            others.append(value.astype(dtype))
        if value.dtype.kind in "iu":
            far = numpy.array(min(1000, numpy.iinfo(value.dtype).max), value.dtype)
            others += [value + far, value - far, numpy.full_like(value, numpy.iinfo(value.dtype).max)]
        for other in others:
            yield [*values[:i], other, *values[i + 1 :]]
        yield values[:i] + values[i + 1 :]


@pytest.mark.parametrize("row", ROWS, ids=[row.op for row in ROWS])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_no_input_is_worse_than_an_error(row: Row) -> None:
    """Graphs come from files too: whatever an op is given, it computes or raises."""
    for variant in row.variants[:2]:
        for values in mutations(draw(variant, "float32")):
            with contextlib.suppress(mx.MxpipeError):
                results = _native.invoke(row.op, values, variant.attributes)
                for result in results if isinstance(results, tuple) else (results,):
                    result.asnumpy()


@pytest.mark.parametrize(("message", "call"), ERRORS, ids=[message[:60] for message, _ in ERRORS])
def test_message(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(OperatorError, match=re.escape(message)) as caught:
        call()
    assert re.match(r"\[\w+\] (.+ )?must .+\.$", str(caught.value)) or "got:" in str(caught.value)
