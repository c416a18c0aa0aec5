"""Rows of the softmax family."""

from __future__ import annotations

import references as ref
from rows import Row, call, compute, ids, real, same, softmax_backward_like, softmax_like, statistics
from scipy import special

ROWS: list[Row] = [
    softmax_like("softmax", special.softmax),
    softmax_like("log_softmax", special.log_softmax),
    softmax_backward_like("softmax_backward", ref.softmax_backward, positive=True),
    softmax_backward_like("log_softmax_backward", ref.log_softmax_backward, positive=False),
    Row(
        "softmax_cross_entropy",
        ref.softmax_cross_entropy,
        (
            call(real(4, 7), ids(4, below=7)),
            call(real(5, 2), ids(5, below=2, dtype="int32")),
            call(real(0, 3), ids(0, below=3)),
            call(real(3, 4133, low=-90, high=90), ids(3, below=4133)),
        ),
        result=compute,
        loose=4,
        second_order=True,
    ),
    Row(
        "softmax_cross_entropy_backward",
        ref.softmax_cross_entropy_backward,
        (
            call(statistics(4), real(4, 7), ids(4, below=7), statistics(4, low=2.0, high=3.0)),
            call(statistics(0), real(0, 3), ids(0, below=3), statistics(0)),
            call(
                statistics(2),
                real(2, 130),
                ids(2, below=130, dtype="int32"),
                statistics(2, low=4.0, high=5.0),
            ),
        ),
        loose=4,
        second_order=True,
    ),
    Row(
        "softmax_cross_entropy_and_gradient",
        ref.softmax_cross_entropy_and_gradient,
        (
            call(real(4, 7), ids(4, below=7), statistics(4)),
            call(real(5, 2), ids(5, below=2, dtype="int32"), statistics(5)),
            call(real(0, 3), ids(0, below=3), statistics(0)),
            call(real(3, 4133, low=-90, high=90), ids(3, below=4133), statistics(3)),
        ),
        result=(compute, compute, same),
        loose=4,
    ),
]
