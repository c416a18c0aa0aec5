"""One row an op: inputs, reference, tolerances. The rows drive every test of this folder.

A row's variants say what the op is called with. Inputs of `real` take the dtype under test, the others have
their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import cases_attention
import cases_convolution
import cases_elementwise
import cases_normalization
import cases_recurrent
import cases_softmax
import cases_sparse
import numpy as np
import references as ref
from rows import (
    ALL,
    FLOATS,
    KEY,
    Row,
    accumulated,
    always,
    call,
    ids,
    real,
    reduction,
    same,
    statistics,
    unique_ids,
)

WHOLE = 2**63 - 1  # the end of a slice that takes a whole axis

ROWS: list[Row] = [
    *cases_attention.ROWS,
    *cases_elementwise.ROWS,
    *cases_convolution.ROWS,
    *cases_normalization.ROWS,
    *cases_softmax.ROWS,
    *cases_sparse.ROWS,
    *cases_recurrent.ROWS,
    # --------------------------------------------------------------------------------------------- reductions
    reduction("sum", np.sum, dtypes=ALL, result=accumulated, exact=True, loose=20, second_order=True),
    reduction("mean", np.mean, empty=False, loose=20, second_order=True),
    reduction("prod", np.prod, dtypes=("int32", "bool", *FLOATS), result=accumulated, exact=True, loose=20),
    reduction("max", np.max, empty=False, dtypes=ALL, exact=True),
    reduction("min", np.min, empty=False, dtypes=ALL, exact=True),
    *(
        Row(
            name,
            getattr(np, name),
            tuple(
                call(real(*shape), axis=axis, keepdims=k)
                for shape, axis in (
                    ((3, 5), 1),
                    ((3, 5), 0),
                    ((2, 3, 4), -2),
                    ((7,), 0),
                    ((0, 3), 1),
                    ((2, 300), 1),
                )
                for k in (False, True)
            ),
            dtypes=ALL,
            result=always("int64"),
            exact=True,
        )
        for name in ("argmax", "argmin")
    ),
    # -------------------------------------------------------------------------------------------------- shape
    Row(
        "reshape",
        lambda x, shape: x.reshape([x.shape[i] if n == -2 else n for i, n in enumerate(shape)]),
        (
            call(real(3, 4), shape=[2, 6]),
            call(real(3, 4), shape=[-1]),
            call(real(2, 3, 4), shape=[-2, -1]),
            call(real(1), shape=[]),
            call(real(0, 3), shape=[3, 0]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "transpose",
        lambda x, axes: x.transpose(axes),
        (
            call(real(3, 4), axes=[1, 0]),
            call(real(2, 3, 4), axes=[2, 0, 1]),
            call(real(2, 3, 4), axes=[0, 2, 1]),
            call(real(5), axes=[0]),
            call(real(), axes=[]),
            call(real(0, 3), axes=[1, 0]),
            call(real(2, 3, 4, 5), axes=[3, 1, 2, 0]),
            call(real(70, 65), axes=[1, 0]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "concatenate",
        lambda *arrays, axis=0: np.concatenate(arrays, axis),
        (
            call(real(2, 3), real(4, 3), axis=0),
            call(real(2, 3), real(2, 1), real(2, 5), axis=1),
            call(real(2, 3, 4), real(2, 3, 4), axis=-2),
            call(real(3), axis=0),
            call(real(0, 3), real(2, 3), axis=0),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "slice",
        lambda x, begin, end, step: x[ref.region(begin, end, step)],
        (
            call(real(5, 6), begin=[1, 0], end=[4, WHOLE], step=[1, 1]),
            call(real(5, 6), begin=[0, 5], end=[WHOLE, -1], step=[2, -2]),
            call(real(7), begin=[6], end=[-1], step=[-1]),
            call(real(4, 3, 2), begin=[0, 1, 0], end=[WHOLE, 2, WHOLE], step=[1, 1, 1]),
            call(real(4), begin=[2], end=[2], step=[1]),
            call(real(), begin=[], end=[], step=[]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "slice_scatter",
        ref.slice_scatter,
        (
            call(real(3, 6), shape=[5, 6], begin=[1, 0], end=[4, WHOLE], step=[1, 1]),
            call(real(3, 3), shape=[5, 6], begin=[0, 5], end=[WHOLE, -1], step=[2, -2]),
            call(real(0), shape=[4], begin=[2], end=[2], step=[1]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "slice_assign",
        ref.slice_assign,
        (
            call(real(5, 6), real(3, 6), begin=[1, 0], end=[4, WHOLE], step=[1, 1]),
            call(real(5, 6), real(3, 3), begin=[0, 5], end=[WHOLE, -1], step=[2, -2]),
            call(real(4), real(0), begin=[2], end=[2], step=[1]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    # -------------------------------------------------------------------------------------------------- index
    Row(
        "take",
        lambda a, indices, axis=0: np.take(a, indices, axis),
        (
            call(real(5, 3), ids(4, low=-5, below=5), axis=0),
            call(real(5, 3), ids(2, 2, low=-3, below=3, dtype="int32"), axis=1),
            call(real(2, 3, 4), ids(below=3), axis=-2),
            call(real(5, 3), ids(0, below=5), axis=0),
            call(real(9), ids(40, below=9), axis=0),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "take_grad",
        ref.take_grad,
        (
            call(ids(4, low=-5, below=5), real(4, 3), shape=[5, 3], axis=0),
            call(ids(2, 2, below=3, dtype="int32"), real(5, 2, 2), shape=[5, 3], axis=1),
            call(ids(0, below=5), real(0, 3), shape=[5, 3], axis=0),
        ),
        loose=4,
        second_order=True,
    ),
    Row(
        "pick",
        ref.pick,
        (
            call(real(4, 5), ids(4, low=-5, below=5), axis=-1),
            call(real(4, 5), ids(1, 5, below=4, dtype="int32"), axis=0, keepdims=True),
            call(real(2, 3, 4), ids(2, 4, below=3), axis=1),
            call(real(0, 3), ids(0, below=3), axis=1),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "pick_grad",
        ref.pick_grad,
        (
            call(ids(4, low=-5, below=5), real(4), shape=[4, 5], axis=-1),
            call(ids(5, below=4), real(1, 5), shape=[4, 5], axis=0, keepdims=True),
            call(ids(2, 4, below=3), real(2, 4), shape=[2, 3, 4], axis=1),
        ),
        second_order=True,
    ),
    Row(
        "one_hot",
        ref.one_hot,
        tuple(
            call(ids(*shape, low=-1, below=6, dtype=kind), depth=5, dtype=to)
            for shape, kind, to in (
                ((4,), "int64", "float32"),
                ((2, 3), "int32", "int64"),
                ((), "int64", "bool"),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
    ),
    Row(
        "embedding",
        lambda weight, indices: weight[indices],
        (
            call(real(6, 3), ids(4, below=6)),
            call(real(6, 3), ids(2, 5, below=6, dtype="int32")),
            call(real(6, 1), ids(below=6)),
            call(real(6, 33), ids(0, below=6)),
        ),
        exact=True,
        second_order=True,
    ),
    Row(
        "embedding_grad",
        ref.embedding_grad,
        (
            call(ids(9, below=6), real(9, 3), rows=6),
            call(ids(2, 5, below=3, dtype="int32"), real(2, 5, 17), rows=6),
            call(ids(0, below=6), real(0, 3), rows=6),
        ),
        loose=4,
        second_order=True,
    ),
    # ------------------------------------------------------------------------------------------------- sparse
    Row(
        "unique_rows",
        ref.unique_rows,
        (
            call(ids(9, low=-1, below=5), real(9, 3)),
            call(ids(1, below=5), real(1, 20)),
            call(ids(0, below=5), real(0, 3)),
            call(ids(6, low=-1, below=0), real(6, 3)),
            call(ids(400, low=-1, below=50), real(400, 2)),
        ),
        dtypes=("float32", "float64", "bfloat16", "float16"),
        result=(always("int64"), same),
        loose=20,
    ),
    Row(
        "take_rows",
        ref.take_rows,
        (
            call(real(6, 3), ids(4, low=-1, below=6)),
            call(real(6, 2, 3), ids(4, low=-1, below=6, dtype="int32")),
            call(real(6), ids(3, low=-1, below=6)),
            call(real(6, 3), ids(0, below=6)),
        ),
        exact=True,
        second_order=True,
    ),
    Row(
        "scatter_rows",
        ref.scatter_rows,
        (
            call(real(6, 3), unique_ids(4, 6, unused=1), real(4, 3)),
            call(real(6, 2, 3), unique_ids(2, 6, unused=0), real(2, 2, 3)),
            call(real(6, 3), unique_ids(0, 6, unused=0), real(0, 3)),
            call(real(9000, 5), unique_ids(8000, 9000, unused=100), real(8000, 5)),
            call(real(60, 17), ids(4000, low=-1, below=60), real(4000, 17), smooth=False),
        ),
        exact=True,
        second_order=True,
    ),
    Row(
        "row_sparse_to_dense",
        ref.row_sparse_to_dense,
        (
            call(ids(9, low=-1, below=6), real(9, 3), rows=6),
            call(ids(3, below=6, dtype="int32"), real(3, 2, 3), rows=6),
            call(ids(0, below=6), real(0, 3), rows=6),
        ),
        loose=4,
        second_order=True,
    ),
    # ----------------------------------------------------------------------------------------------- matrices
    Row(
        "matmul",
        ref.matmul,
        (
            call(real(3, 4), real(4, 5)),
            call(real(4, 3), real(4, 5), transpose_a=True),
            call(real(3, 4), real(5, 4), transpose_b=True),
            call(real(4, 3), real(5, 4), transpose_a=True, transpose_b=True),
            call(real(2, 3, 4), real(4, 5)),
            call(real(3, 4), real(2, 4, 5)),
            call(real(2, 1, 3, 4), real(3, 4, 5)),
            call(real(2, 4, 3), real(2, 5, 4), transpose_a=True, transpose_b=True),
            call(real(0, 4), real(4, 5)),
            call(real(3, 0), real(0, 5)),
            call(real(1, 65), real(65, 1)),
        ),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        exact=True,
        loose=20,
        second_order=True,
    ),
    Row(
        "fully_connected",
        ref.fully_connected,
        (
            call(real(3, 4), real(5, 4), real(5)),
            call(real(3, 4), real(5, 4)),
            *(
                call(real(3, 4), real(5, 4), real(5), activation=activation)
                for activation in ("relu", "gelu", "tanh", "sigmoid")
            ),
            call(real(1, 4), real(5, 4), real(5), activation="gelu"),
            call(real(3, 40), real(17, 40), statistics(17)),
            call(real(0, 4), real(5, 4), real(5)),
        ),
        loose=20,
        second_order=True,
    ),
    # ----------------------------------------------------------------------------------------------- networks
    Row("stop_gradient", lambda x: x, (call(real(3, 4)), call(real(0))), dtypes=ALL, exact=True),
    # ------------------------------------------------------------------------------------------------- random
    Row(
        "dropout",
        ref.dropout,
        tuple(
            call(real(*shape), KEY, p=p, offset=o)
            for shape in ((3, 50), (), (0, 2), (700,))
            for p, o in ((0.3, 0), (0.0, 1), (1.0, 2))
        ),
        second_order=True,
        loose=2,
    ),
    Row(
        "random_uniform",
        ref.uniform,
        tuple(
            call(KEY, shape=shape, low=low, high=high, dtype=to, offset=offset)
            for shape, low, high, to, offset in (
                ([3, 50], 0.0, 1.0, "float32", 0),
                ([], -1.0, 3.0, "float32", 1),
                ([1000], -1.0, 3.0, "float64", 5),
                ([65], 2.0, 4.0, "bfloat16", 0),
                ([0, 3], 0.0, 1.0, "float16", 0),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
        loose=2,
    ),
    Row(
        "random_bernoulli",
        ref.bernoulli,
        tuple(
            call(KEY, shape=[3, 99], p=p, dtype=to, offset=1)
            for p, to in ((0.3, "float32"), (0.0, "bool"), (1.0, "int32"), (0.5, "bfloat16"))
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
    ),
    Row(
        "random_normal",
        ref.normal,
        tuple(
            call(KEY, shape=shape, loc=loc, scale=scale, dtype=to, offset=offset)
            for shape, loc, scale, to, offset in (
                ([3, 50], 0.0, 1.0, "float32", 0),
                ([], -1.0, 3.0, "float32", 1),
                ([1000], -1.0, 3.0, "float64", 5),
                ([65], 2.0, 4.0, "bfloat16", 0),
                ([0, 3], 0.0, 1.0, "float16", 0),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
        precision="float16",  # drawn in float32; here also compared in bfloat16
        loose=8,
    ),
]

BY_OP = {row.op: row for row in ROWS}


def combinations() -> Iterator[tuple[Row, str]]:
    for row in ROWS:
        for dtype in row.dtypes:
            yield row, dtype
