"""Rows of the elementwise ops."""

from __future__ import annotations

import numpy as np
import references as ref
from rows import (
    ALL,
    FLOATS,
    NUMBERS,
    Row,
    always,
    binary,
    call,
    floating,
    ids,
    real,
    truth_of,
    truths,
    unary,
)
from scipy import special

ROWS: list[Row] = [
    # ------------------------------------------------------------------------------------------- one array
    unary("negative", np.negative, dtypes=NUMBERS, exact=True, second_order=True),
    unary("abs", np.abs, dtypes=NUMBERS, exact=True),
    unary("sign", np.sign, dtypes=NUMBERS, exact=True),
    unary("square", np.square, dtypes=NUMBERS, exact=True, second_order=True),
    unary("floor", np.floor, dtypes=NUMBERS, exact=True),
    unary("ceil", np.ceil, dtypes=NUMBERS, exact=True),
    unary("round", np.rint, dtypes=FLOATS),
    unary(
        "reciprocal", np.reciprocal, low=0.5, dtypes=("int32", *FLOATS), result=floating, second_order=True
    ),
    unary("sqrt", np.sqrt, low=0.5, dtypes=("int32", *FLOATS), result=floating, second_order=True),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), low=0.5, result=floating, second_order=True, loose=2),
    unary("exp", np.exp, dtypes=("int8", "bool", *FLOATS), result=floating, second_order=True),
    unary("expm1", np.expm1, result=floating, second_order=True),
    unary("log", np.log, low=0.5, dtypes=("uint8", *FLOATS), result=floating, second_order=True),
    unary("log1p", np.log1p, low=-0.5, result=floating, second_order=True),
    unary("sin", np.sin, low=-9, high=9, result=floating, second_order=True),
    unary("cos", np.cos, low=-9, high=9, result=floating, second_order=True),
    unary("tanh", np.tanh, dtypes=("int64", *FLOATS), result=floating, second_order=True),
    unary("erf", special.erf, result=floating, second_order=True),
    unary("sigmoid", special.expit, low=-9, high=9, result=floating, second_order=True),
    unary("softplus", lambda x: np.logaddexp(x, 0), low=-9, high=9, result=floating, second_order=True),
    unary("relu", lambda x: np.maximum(x, 0), dtypes=NUMBERS, exact=True),
    unary("silu", lambda x: x * special.expit(x), result=floating, second_order=True, loose=2),
    unary(
        "gelu",
        ref.gelu,
        result=floating,
        second_order=True,
        loose=4,
        attributes=[{"approximate": False}, {"approximate": True}],
    ),
    unary(
        "leaky_relu",
        lambda x, slope=0.25: np.where(x > 0, x, slope * x),
        result=floating,
        attributes=[{}, {"slope": 0.1}],
    ),
    unary("is_nan", np.isnan, dtypes=ALL, result=always("bool")),
    unary("logical_not", truth_of(np.logical_not), dtypes=ALL, result=always("bool")),
    unary(
        "clip",
        lambda x, a_min=-np.inf, a_max=np.inf: np.clip(x, a_min, a_max),
        dtypes=("int32", "uint8", *FLOATS),
        attributes=[{"a_min": -1.0, "a_max": 1.0}, {"a_min": 0.0}, {"a_max": 1.0}, {}],
    ),
    # ------------------------------------------------------------------------------------------ two arrays
    binary("add", np.add, dtypes=ALL, exact=True, second_order=True),
    binary("subtract", np.subtract, dtypes=NUMBERS, exact=True, second_order=True),
    binary("multiply", np.multiply, dtypes=ALL, exact=True, second_order=True),
    binary(
        "divide",
        np.divide,
        low=(-2.0, 0.5),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        result=floating,
        second_order=True,
    ),
    binary("power", np.power, low=(0.5, -2.0), second_order=True, loose=4),
    binary("maximum", np.maximum, dtypes=ALL, exact=True),
    binary("minimum", np.minimum, dtypes=ALL, exact=True),
    binary(
        "mod",
        ref.floor_mod,
        low=(-9, 0.75),
        high=(9, 1.0),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        exact=True,
    ),
    binary(
        "floor_divide",
        ref.floor_divide,
        low=(-9, 0.75),
        high=(9, 1.0),
        dtypes=("int32", "int64", "uint8", *FLOATS),
        exact=True,
    ),
    *(
        binary(name, getattr(np, name), dtypes=ALL, exact=True, result=always("bool"))
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    ),
    *(
        binary(name, truth_of(getattr(np, name)), dtypes=ALL, exact=True, result=always("bool"))
        for name in ("logical_and", "logical_or")
    ),
    binary("multiply_if_positive", lambda g, x: np.where(x > 0, g, 0)),
    Row(
        "where",
        np.where,
        (
            call(truths(3, 5), real(3, 5), real(3, 5)),
            call(truths(3, 1), real(5), real(2, 1, 1)),
            call(truths(), real(4), real()),
            call(ids(4, below=3), real(4), real(4)),
            call(truths(0, 2), real(0, 2), real(2)),
        ),
        dtypes=ALL,
        exact=True,
    ),
    # --------------------------------------------------------------------------------- conversion, constants
    Row(
        "cast",
        ref.cast,
        tuple(
            call(real(3, 70, low=-9, high=9), dtype=to, smooth=to == "float64")
            for to in ("float64", "float32", "int32", "int64", "int8", "bool", "int16")
        ),
        dtypes=("float32", "float64", "float16", "bfloat16", "int32", "int64", "int8", "bool", "uint8"),
        result=lambda dtype: "attribute",
        exact=True,
    ),
    Row(
        "broadcast_to",
        lambda x, shape: np.broadcast_to(x, shape),
        (
            call(real(3, 1), shape=[2, 3, 4]),
            call(real(), shape=[5]),
            call(real(1, 4), shape=[0, 4]),
            call(real(4), shape=[4]),
        ),
        dtypes=ALL,
        exact=True,
        second_order=True,
    ),
    Row(
        "full",
        lambda shape, value, dtype="float32": ref.cast(np.full(shape, value), dtype),
        tuple(
            call(shape=shape, value=value, dtype=dtype)
            for shape in ([3, 4], [], [0, 2])
            for value, dtype in (
                (1.5, "float32"),
                (-3.0, "int64"),
                (1.0, "bool"),
                (0.1, "float64"),
                (2.5, "bfloat16"),
            )
        ),
        dtypes=("float32",),
        result=lambda dtype: "attribute",
    ),
]
