"""How far apart are two columns of numbers or categories? The formulas of drift, and the bins they count in.

Enters: the statistics of a column on both sides, and how many values of the newer side lie in bins of the
older side. Leaves: the population stability index (PSI), and a test with its p-value. Called by the
validation of snapshots and by monitoring. Pure functions over NumPy.

A column of categories is compared over the most frequent ones of the reference and one bin for all others; a
column of numbers over the histogram of the reference, whose bins hold a twentieth of its values each. Missing
values are a bin of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mxpipe.data.statistics import ColumnStatistics

DRIFT_CATEGORIES = 30
_LEAST_EXPECTED = 5.0  # rows of a bin: with fewer, chi-square's distribution is not what its test assumes

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bins:
    """One column of both sides, counted in the same bins.

    Attributes:
        kind: "numbers" where the bins are ordered, else "categories".
        labels: What each bin holds, in words; the first bin holds missing values.
        expected: The reference's rows by bin.
        observed: The newer side's rows by bin.
    """

    kind: Literal["numbers", "categories"]
    labels: tuple[str, ...]
    expected: Vector
    observed: Vector


class HypothesisTest(NamedTuple):
    """A statistical test of the hypothesis that both sides are drawn from one distribution.

    Attributes:
        name: "kolmogorov_smirnov" or "chi_square".
        statistic: Its statistic.
        p_value: How often chance alone gives such a statistic or a greater one.
    """

    name: str
    statistic: float
    p_value: float


def same_kind(observed: ColumnStatistics, expected: ColumnStatistics) -> bool:
    """Whether two columns can be compared: both strings, or both none."""
    return (observed.type == "string") == (expected.type == "string")


def shared_bins(
    expected: ColumnStatistics,
    observed: ColumnStatistics,
    histogram: Callable[[Vector], npt.NDArray[Any]],
) -> Bins | None:
    """Count both sides in the reference's bins.

    Args:
        expected: The reference.
        observed: The newer side.
        histogram: For inner edges (k,), ascending, the newer side's values by bin (k + 1,): the first bin
            holds values up to the first edge, the last one those above the last edge.

    Returns:
        The bins, or None where the reference has no rows to compare with.
    """
    if not expected.rows or (expected.categories is None and not expected.edges):
        return None
    missing = [float(column.nulls + column.nonfinite) for column in (expected, observed)]
    if _by_category(expected, observed):
        values = [value for value, _ in (expected.categories or ())[:DRIFT_CATEGORIES]]
        sides = [
            _category_counts(column, values, gone)
            for column, gone in zip((expected, observed), missing, strict=True)
        ]
        labels = ("missing", *map(str, values), "all others")
        return Bins("categories", labels, *sides)
    counts = np.asarray(histogram(np.asarray(expected.edges)), dtype=np.float64)
    return Bins(
        "numbers",
        ("missing", *_interval_labels(expected.edges)),
        np.concatenate([[missing[0]], np.asarray(expected.counts, dtype=np.float64)]),
        np.concatenate([[missing[1]], counts]),
    )


def _by_category(expected: ColumnStatistics, observed: ColumnStatistics) -> bool:
    if expected.categories is None or observed.categories is None:
        return expected.type == "string"
    # Of many integers, the most frequent thirty say less than the histogram.
    few = (expected.distinct or 0) <= DRIFT_CATEGORIES
    return few or expected.type == "string" or not expected.edges


def _category_counts(column: ColumnStatistics, values: Sequence[Any], missing: float) -> Vector:
    known = dict(column.categories or ())
    listed = [known.get(value, 0) for value in values]
    return np.asarray([missing, *listed, column.rows - missing - sum(listed)], dtype=np.float64)


def _interval_labels(edges: Sequence[float]) -> list[str]:
    if not edges:
        return ["all"]
    between = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return [f"up to {edges[0]:.4g}", *between, f"above {edges[-1]:.4g}"]


def population_stability_index(expected: npt.ArrayLike, observed: npt.ArrayLike) -> float:
    """PSI: the sum over bins of (q - p) ln(q / p), of shares p expected and q observed.

    It is the symmetrised Kullback-Leibler divergence (Kullback and Leibler, 1951; Jeffreys, 1946). In credit
    scoring, below 0.1 is read as stable and above 0.25 as shifted (Siddiqi, Credit Risk Scorecards, 2006).
    Half a count is added to every bin, so that an empty bin gives a finite number.

    Example:
        >>> population_stability_index([50, 50], [50, 50])
        0.0
        >>> round(population_stability_index([500, 500], [800, 200]), 3)
        0.415
    """
    first, second = np.asarray(expected, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    p = (first + 0.5) / (first.sum() + 0.5 * first.size)
    q = (second + 0.5) / (second.sum() + 0.5 * second.size)
    return math.fsum(((q - p) * np.log(q / p)).tolist())


def kolmogorov_smirnov(expected: npt.ArrayLike, observed: npt.ArrayLike) -> HypothesisTest:
    """Two-sample Kolmogorov-Smirnov test: the greatest distance between two cumulative distributions.

    The distributions are known at the edges of ordered bins, so that the distance is at most the share of one
    bin too small, and the p-value errs to the safe side. The p-value is Kolmogorov's limit with Stephens'
    correction for finite samples (Stephens, J. R. Stat. Soc. B 32, 1970; Press et al., Numerical Recipes,
    section 14.3).

    Args:
        expected: Counts by bin (k,), in order.
        observed: Counts by bin (k,), in order.

    Example:
        >>> kolmogorov_smirnov([100, 100], [100, 100]).p_value
        1.0
        >>> test = kolmogorov_smirnov([500, 500], [800, 200])
        >>> round(test.statistic, 3), test.p_value < 1e-6
        (0.3, True)
    """
    first, second = np.asarray(expected, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if not first.sum() or not second.sum():
        return HypothesisTest("kolmogorov_smirnov", 0.0, 1.0)
    distance = float(np.max(np.abs(np.cumsum(first) / first.sum() - np.cumsum(second) / second.sum())))
    root = math.sqrt(first.sum() * second.sum() / (first.sum() + second.sum()))
    return HypothesisTest(
        "kolmogorov_smirnov", distance, _kolmogorov_tail((root + 0.12 + 0.11 / root) * distance)
    )


def chi_square(expected: npt.ArrayLike, observed: npt.ArrayLike) -> HypothesisTest:
    """Pearson's chi-square test that two samples of categories come from one distribution.

    The statistic of the 2 x k table of counts with k - 1 degrees of freedom (Pearson, Phil. Mag. 50, 1900).
    Bins in which fewer than five rows of a side are to be expected are taken together (Cochran, Biometrics
    10, 1954).

    Args:
        expected: Counts by bin (k,).
        observed: Counts by bin (k,).

    Example:
        >>> chi_square([100, 100], [50, 50]).p_value
        1.0
        >>> test = chi_square([500, 500], [550, 450])
        >>> round(test.statistic, 3), round(test.p_value, 4)
        (5.013, 0.0252)
    """
    table = np.asarray([expected, observed], dtype=np.float64)
    sums = table.sum(axis=1, keepdims=True)
    if not sums.all():
        return HypothesisTest("chi_square", 0.0, 1.0)
    rare = table.sum(axis=0) * (sums.min() / sums.sum()) < _LEAST_EXPECTED
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return HypothesisTest("chi_square", 0.0, 1.0)
    mean = sums * table.sum(axis=0) / sums.sum()
    statistic = math.fsum((np.square(table - mean) / mean).ravel().tolist())
    return HypothesisTest("chi_square", statistic, _gamma_tail((table.shape[1] - 1) / 2, statistic / 2))


def _kolmogorov_tail(value: float) -> float:
    """1 - K(value) of Kolmogorov's distribution: 2 sum over k of (-1)^(k-1) exp(-2 k^2 value^2)."""
    if value < 0.2:  # the series converges slowly there, and the value is 1 to twelve digits
        return 1.0
    total = math.fsum((-1) ** (k - 1) * math.exp(-2.0 * (k * value) ** 2) for k in range(1, 101))
    return min(1.0, max(0.0, 2.0 * total))


def _gamma_tail(a: float, x: float) -> float:
    """The regularised upper incomplete gamma function Q(a, x).

    Chi-square's tail for a = df / 2 and x = value / 2. By its series below a + 1, and by Lentz's continued
    fraction above (Press et al., Numerical Recipes, section 6.2; Abramowitz and Stegun, 6.5.29 and 6.5.31).
    """
    if x <= 0.0:
        return 1.0
    scale = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1.0:
        term = total = 1.0 / a
        denominator = a
        while abs(term) > abs(total) * 1e-15:
            denominator += 1.0
            term *= x / denominator
            total += term
        return max(0.0, 1.0 - scale * total)
    b = x + 1.0 - a
    c, d = 1e300, 1.0 / b
    result = d
    for index in range(1, 10_000):
        numerator = -index * (index - a)
        b += 2.0
        d = 1.0 / (numerator * d + b)
        c = b + numerator / c
        factor = c * d
        result *= factor
        if abs(factor - 1.0) < 1e-15:
            break
    return min(1.0, scale * result)
