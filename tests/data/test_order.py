"""The order of an epoch is a permutation, and a function of (rows, seed, epoch, position) alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mxpipe._native import RowOrder
from mxpipe.errors import DataError

SEEDS = st.integers(0, 2**64 - 1)
EPOCHS = st.integers(0, 10**6)


@given(rows=st.integers(1, 3000), seed=SEEDS, epoch=EPOCHS)
@settings(max_examples=150, deadline=None)
def test_every_row_comes_once(rows: int, seed: int, epoch: int):
    order = RowOrder(rows, seed, epoch).rows(0, rows)
    assert np.array_equal(np.sort(order), np.arange(rows))


@given(rows=st.integers(1, 10**12), seed=SEEDS, epoch=EPOCHS, data=st.data())
@settings(max_examples=100, deadline=None)
def test_positions_can_be_asked_for_in_any_parts(rows: int, seed: int, epoch: int, data: st.DataObject):
    start = data.draw(st.integers(0, rows - 1))
    count = data.draw(st.integers(0, min(64, rows - start)))
    cut = data.draw(st.integers(0, count))
    order = RowOrder(rows, seed, epoch)
    whole = order.rows(start, count)
    parts = [order.rows(start + cut, count - cut), order.rows(start, cut)]
    assert np.array_equal(whole, np.concatenate([parts[1], parts[0]]))
    assert ((whole >= 0) & (whole < rows)).all()
    assert len(set(whole.tolist())) == count


def reference(rows: int, seed: int, epoch: int) -> list[int]:
    """The same permutation in plain Python integers: no compiler and no version may change it."""
    mask, golden = 2**64 - 1, 0x9E3779B97F4A7C15

    def mix(value: int) -> int:
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
        return value ^ (value >> 31)

    bits = max(2, (rows - 1).bit_length())
    right_bits = bits // 2
    left_bits = bits - right_bits
    state = mix(mix((seed + golden) & mask) ^ (epoch * golden & mask))
    keys = []
    for _ in range(8):
        state = (state + golden) & mask
        keys.append(mix(state))

    def permute(value: int) -> int:
        left, right = value >> right_bits, value & (2**right_bits - 1)
        for index in range(0, 8, 2):
            left ^= mix(keys[index] ^ right) & (2**left_bits - 1)
            right ^= mix(keys[index + 1] ^ left) & (2**right_bits - 1)
        return left << right_bits | right

    result = []
    for value in range(rows):
        value = permute(value)
        while value >= rows:
            value = permute(value)
        result.append(value)
    return result


@pytest.mark.parametrize(("rows", "seed", "epoch"), [(2, 1, 0), (1000, 7, 3), (4097, 2**64 - 1, 10)])
def test_order_is_the_documented_one(rows: int, seed: int, epoch: int):
    assert RowOrder(rows, seed, epoch).rows(0, rows).tolist() == reference(rows, seed, epoch)


def test_epochs_and_seeds_differ_and_look_shuffled():
    rows = 20_000
    keys = [(0, 0), (0, 1), (1, 0), (1, 1)]
    orders = [RowOrder(rows, seed, epoch).rows(0, rows) for seed, epoch in keys]
    positions = np.arange(rows)
    for index, order in enumerate(orders):
        assert abs(np.corrcoef(positions, order)[0, 1]) < 0.03  # four standard errors
        assert np.abs(np.diff(order)).mean() == pytest.approx(rows / 3, rel=0.03)  # as of independent rows
        for other in orders[index + 1 :]:
            assert np.count_nonzero(order == other) < 10
            assert abs(np.corrcoef(order, other)[0, 1]) < 0.03


def test_the_first_row_is_uniform_over_seeds():
    firsts = np.array([RowOrder(10, seed, 0).rows(0, 1)[0] for seed in range(5000)])
    counts = np.bincount(firsts, minlength=10)
    assert ((counts - 500) ** 2 / 500).sum() < 33.7  # chi-square, 9 degrees of freedom, p = 0.0001


def test_no_seed_keeps_the_order_and_bad_arguments_are_refused():
    assert RowOrder(5, None, 9).rows(1, 3).tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="rows must be in"):
        RowOrder(0, 1, 0)
    with pytest.raises(DataError, match="epoch must not be negative; got -1"):
        RowOrder(5, 1, -1)
    for start, count in ((0, 6), (-1, 2), (5, 1), (2, -1)):
        with pytest.raises(DataError, match="positions must be in"):
            RowOrder(5, 1, 0).rows(start, count)
