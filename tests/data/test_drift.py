"""The formulas of drift against SciPy, and the bins in which both sides are counted."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from mxpipe.data import StatisticsAccumulator
from mxpipe.data.drift import (
    chi_square,
    kolmogorov_smirnov,
    population_stability_index,
    shared_bins,
)


@pytest.mark.parametrize("shift", [0.0, 0.02, 0.05, 0.3])
def test_kolmogorov_smirnov_against_scipy(shift: float) -> None:
    random = np.random.default_rng(3)
    first, second = random.normal(size=4000), random.normal(shift, size=3000)
    edges = np.linspace(-5, 5, 20_001)  # fine enough to be all but exact
    counts = [np.histogram(values, edges)[0] for values in (first, second)]
    ours, theirs = kolmogorov_smirnov(*counts), stats.ks_2samp(first, second, method="asymp")
    assert ours.statistic == pytest.approx(theirs.statistic, abs=2e-3)
    # Stephens' correction is SciPy's asymptotic form with a better small-sample term.
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=0.15, abs=1e-12)


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [0.52, 0.29, 0.19], [0.1, 0.1, 0.8]])
def test_chi_square_against_scipy(shares: list[float]) -> None:
    random = np.random.default_rng(4)
    first = random.multinomial(2000, [0.5, 0.3, 0.2])
    second = random.multinomial(500, shares)
    ours, theirs = chi_square(first, second), stats.chi2_contingency([first, second])
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-12)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 5, 30])
@pytest.mark.parametrize("value", [0.01, 1.0, 10.0, 60.0, 400.0])
def test_the_tail_of_chi_square_to_many_digits(freedom: int, value: float) -> None:
    from mxpipe.data.drift import _gamma_tail

    assert _gamma_tail(freedom / 2, value / 2) == pytest.approx(stats.chi2.sf(value, freedom), rel=1e-10)


def test_rare_categories_are_counted_together() -> None:
    first = [1000, *[1] * 50]
    second = [1000, *[0] * 25, *[2] * 25]
    assert chi_square(first, second).p_value == 1.0, "50 and 50 rare rows are no news"
    assert chi_square([100, 0], [100, 0]).p_value == 1.0
    assert chi_square([100, 3], [0, 0]).p_value == 1.0


def test_equal_sides_say_nothing_whatever_their_size() -> None:
    for counts in ([5, 5, 5], [0, 0, 9], [10_000, 1, 0]):
        assert population_stability_index(counts, counts) == 0.0
        assert kolmogorov_smirnov(counts, counts).p_value == 1.0
        assert chi_square(counts, counts).p_value == 1.0


def test_many_integers_are_compared_by_their_histogram() -> None:
    """The most frequent thirty of a thousand say little; five thousand are no categories any more."""

    def of(values: np.ndarray) -> StatisticsAccumulator:
        accumulator = StatisticsAccumulator([{"name": "x", "type": "int64"}])
        accumulator.update(pa.table({"x": values}))
        return accumulator

    random = np.random.default_rng(0)
    before = of(random.integers(0, 1000, 20_000)).finish()["x"]
    for highest, moved in ((1000, False), (1300, True), (9000, True)):
        now = of(random.integers(0, highest, 20_000))
        bins = shared_bins(before, now.finish()["x"], lambda edges, now=now: now.histogram("x", edges))
        assert bins is not None
        assert bins.kind == "numbers"
        assert bins.observed.sum() == pytest.approx(20_000, abs=1)
        assert (kolmogorov_smirnov(bins.expected, bins.observed).p_value < 1e-3) is moved
        assert (population_stability_index(bins.expected, bins.observed) > 0.05) is moved
