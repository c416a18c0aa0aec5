"""Schedules against their definitions, and free of memory."""

from __future__ import annotations

import math

import pytest

import mxpipe as mx
from mxpipe.errors import SpecificationError


def test_factor():
    schedule = mx.lr_scheduler.FactorScheduler(step=10, factor=0.1, base_lr=1.0, stop_factor_lr=5e-3)
    assert [schedule(n) for n in (1, 10, 11, 20, 21)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert schedule(1000) == pytest.approx(5e-3)


def test_multi_factor():
    schedule = mx.lr_scheduler.MultiFactorScheduler(step=[5, 8], factor=0.5, base_lr=4.0)
    assert [schedule(n) for n in (1, 5, 6, 8, 9, 100)] == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0]


def test_poly_and_cosine():
    poly = mx.lr_scheduler.PolyScheduler(max_update=110, base_lr=2.0, pwr=2, final_lr=1.0, warmup_steps=10)
    assert poly(10) == 2.0
    assert poly(60) == pytest.approx(1.0 + 0.25)
    assert poly(500) == 1.0
    cosine = mx.lr_scheduler.CosineScheduler(max_update=100, base_lr=2.0, final_lr=0.0)
    assert cosine(50) == pytest.approx(1.0)
    assert cosine(25) == pytest.approx(1 + math.cos(math.pi / 4))
    assert cosine(1000) == pytest.approx(0.0)


def test_warmup():
    linear = mx.lr_scheduler.CosineScheduler(100, base_lr=1.0, warmup_steps=10, warmup_begin_lr=0.5)
    assert [linear(0), linear(5), linear(10)] == [0.5, 0.75, 1.0]
    constant = mx.lr_scheduler.PolyScheduler(
        100, base_lr=1.0, warmup_steps=10, warmup_begin_lr=0.5, warmup_mode="constant"
    )
    assert constant(9) == 0.5


def test_no_memory():
    """A resumed run asks for late updates only, and gets what an undisturbed one gets."""
    for make in (
        lambda: mx.lr_scheduler.FactorScheduler(3, 0.5, base_lr=1.0),
        lambda: mx.lr_scheduler.MultiFactorScheduler([3, 7], 0.5, base_lr=1.0),
        lambda: mx.lr_scheduler.PolyScheduler(40, base_lr=1.0),
        lambda: mx.lr_scheduler.CosineScheduler(40, base_lr=1.0),
    ):
        undisturbed = make()
        rates = [undisturbed(n) for n in range(50)]
        assert [make()(n) for n in range(50)] == rates


@pytest.mark.parametrize(
    "make",
    [
        lambda: mx.lr_scheduler.FactorScheduler(0),
        lambda: mx.lr_scheduler.FactorScheduler(1, factor=2.0),
        lambda: mx.lr_scheduler.MultiFactorScheduler([3, 3]),
        lambda: mx.lr_scheduler.CosineScheduler(10, warmup_steps=10),
        lambda: mx.lr_scheduler.CosineScheduler(10, warmup_mode="cubic"),
        lambda: mx.lr_scheduler.CosineScheduler(10, base_lr=0.1, warmup_begin_lr=0.2),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(SpecificationError):
        make()
