"""Arrays and functions with NumPy's names and semantics.

Where they differ from NumPy: the default dtype of floats is float32 and true division of integers gives float32;
an int64 array with a float32 one gives float32; an index out of range always raises. A Python number beside an
array is weak: it does not widen the array's dtype. Reshaping shares memory, slicing copies.

All functions take arrays, NumPy arrays, Python numbers and, as expressions, symbols (`mx.sym`).
"""

from __future__ import annotations

import numpy as _numpy

from .._native import Array as ndarray  # noqa: N813
from . import random
from ._creation import (
    arange,
    array,
    asarray,
    e,
    empty,
    eye,
    full,
    full_like,
    identity,
    inf,
    linspace,
    nan,
    newaxis,
    ones,
    ones_like,
    pi,
    tril,
    triu,
    zeros,
    zeros_like,
)
from ._elementwise import (
    abs,
    absolute,
    add,
    around,
    ceil,
    clip,
    cos,
    divide,
    equal,
    exp,
    expm1,
    fix,
    floor,
    floor_divide,
    greater,
    greater_equal,
    hypot,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    log2,
    log10,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    mod,
    multiply,
    nan_to_num,
    negative,
    not_equal,
    power,
    reciprocal,
    remainder,
    rint,
    round,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    true_divide,
    trunc,
    where,
)
from ._indexing import allclose, array_equal, isclose, take
from ._linear import dot, inner, matmul, outer, tensordot, vdot
from ._methods import attach as _attach
from ._reduction import (
    all,
    amax,
    amin,
    any,
    argmax,
    argmin,
    average,
    count_nonzero,
    max,
    mean,
    min,
    prod,
    ptp,
    std,
    sum,
    var,
)
from ._shape import (
    array_split,
    atleast_1d,
    broadcast_arrays,
    broadcast_to,
    concat,
    concatenate,
    expand_dims,
    flip,
    hstack,
    moveaxis,
    pad,
    permute_dims,
    ravel,
    repeat,
    reshape,
    roll,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
    vstack,
)

dtype = _numpy.dtype
float16, float32, float64 = _numpy.float16, _numpy.float32, _numpy.float64
int8, int16, int32, int64 = _numpy.int8, _numpy.int16, _numpy.int32, _numpy.int64
uint8, uint16, uint32, uint64 = _numpy.uint8, _numpy.uint16, _numpy.uint32, _numpy.uint64
bool_ = _numpy.bool_
bfloat16 = "bfloat16"
"""NumPy has no such dtype; its name is taken wherever a dtype is."""

_attach()

__all__ = [name for name in dir() if not name.startswith("_") and name not in ("annotations",)]
