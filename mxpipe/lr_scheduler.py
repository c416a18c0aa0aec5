"""Learning rate as a function of the number of updates.

A scheduler has no memory: the same `num_update` always gives the same rate, so a resumed run continues
exactly.

Example:
    >>> schedule = FactorScheduler(step=10, factor=0.5, base_lr=1.0, warmup_steps=4)
    >>> [schedule(update) for update in (0, 2, 4, 10, 11, 21)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.25]
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Sequence

from .errors import SpecificationError

__all__ = ["CosineScheduler", "FactorScheduler", "LRScheduler", "MultiFactorScheduler", "PolyScheduler"]


class LRScheduler:
    """Base of all schedulers: the warm-up, and the names that they share.

    Args:
        base_lr: Rate after the warm-up, before any decay.
        warmup_steps: Updates before the decay starts.
        warmup_begin_lr: Rate at update 0 where there is a warm-up.
        warmup_mode: "linear" climbs from `warmup_begin_lr` to `base_lr`, "constant" stays at
            `warmup_begin_lr`.
    """

    def __init__(
        self,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        if warmup_begin_lr > base_lr:
            raise SpecificationError(
                f"[lr_scheduler] base_lr must be at least warmup_begin_lr; got {base_lr} < {warmup_begin_lr}."
            )
        if warmup_steps < 0:
            raise SpecificationError(f"[lr_scheduler] warmup_steps must not be negative; got {warmup_steps}.")
        if warmup_mode not in ("linear", "constant"):
            raise SpecificationError(
                f"[lr_scheduler] warmup_mode must be linear or constant; got {warmup_mode!r}."
            )
        self.base_lr = base_lr
        self.warmup_steps = warmup_steps
        self.warmup_begin_lr = warmup_begin_lr
        self.warmup_mode = warmup_mode

    def __call__(self, num_update: int) -> float:
        """Rate for the update with this number; the first update of an optimizer has number 1."""
        if num_update < self.warmup_steps:
            return self._warmup(num_update)
        return self._decayed(num_update)

    def _warmup(self, num_update: int) -> float:
        if self.warmup_mode == "constant":
            return self.warmup_begin_lr
        climb = (self.base_lr - self.warmup_begin_lr) * num_update / self.warmup_steps
        return self.warmup_begin_lr + climb

    def _decayed(self, num_update: int) -> float:
        raise NotImplementedError


class FactorScheduler(LRScheduler):
    """Multiplies the rate by `factor` after every `step` updates, down to `stop_factor_lr`.

    Args:
        step: Updates between two changes.
        factor: What the rate is multiplied with, at most 1.
        stop_factor_lr: The rate never falls below this.
    """

    def __init__(
        self,
        step: int,
        factor: float = 1.0,
        stop_factor_lr: float = 1e-8,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        if step < 1:
            raise SpecificationError(f"[lr_scheduler] step must be at least 1; got {step}.")
        _check_factor(factor)
        self.step = step
        self.factor = factor
        self.stop_factor_lr = stop_factor_lr

    def _decayed(self, num_update: int) -> float:
        # The n-th change happens after update n * step, so update n * step itself still has the old rate.
        changes = max(num_update - 1, 0) // self.step
        return max(self.base_lr * self.factor**changes, min(self.stop_factor_lr, self.base_lr))


class MultiFactorScheduler(LRScheduler):
    """Multiplies the rate by `factor` after each of the given updates.

    Args:
        step: Increasing numbers of updates.
        factor: What the rate is multiplied with, at most 1.
    """

    def __init__(
        self,
        step: Sequence[int],
        factor: float = 1.0,
        base_lr: float = 0.01,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        step = list(step)
        if not step or step[0] < 1 or any(after <= before for before, after in itertools.pairwise(step)):
            raise SpecificationError(
                f"[lr_scheduler] step must be an increasing list of positive numbers; got {step}."
            )
        _check_factor(factor)
        self.step = step
        self.factor = factor

    def _decayed(self, num_update: int) -> float:
        return self.base_lr * self.factor ** bisect.bisect_left(self.step, num_update)


class PolyScheduler(LRScheduler):
    """Falls from `base_lr` to `final_lr` as a polynomial of the remaining share of updates.

    Args:
        max_update: Update at which `final_lr` is reached; it stays there.
        pwr: Power of the polynomial.
        final_lr: Rate at the end.
    """

    def __init__(
        self,
        max_update: int,
        base_lr: float = 0.01,
        pwr: float = 2.0,
        final_lr: float = 0.0,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        _check_max_update(max_update, warmup_steps)
        self.max_update = max_update
        self.power = pwr
        self.final_lr = final_lr

    def _decayed(self, num_update: int) -> float:
        share = _share_done(num_update, self.warmup_steps, self.max_update)
        return self.final_lr + (self.base_lr - self.final_lr) * math.pow(1.0 - share, self.power)


class CosineScheduler(LRScheduler):
    """Falls from `base_lr` to `final_lr` along half a cosine (Loshchilov and Hutter 2017, without restarts).

    Args:
        max_update: Update at which `final_lr` is reached; it stays there.
        final_lr: Rate at the end.
    """

    def __init__(
        self,
        max_update: int,
        base_lr: float = 0.01,
        final_lr: float = 0.0,
        warmup_steps: int = 0,
        warmup_begin_lr: float = 0.0,
        warmup_mode: str = "linear",
    ) -> None:
        super().__init__(base_lr, warmup_steps, warmup_begin_lr, warmup_mode)
        _check_max_update(max_update, warmup_steps)
        self.max_update = max_update
        self.final_lr = final_lr

    def _decayed(self, num_update: int) -> float:
        share = _share_done(num_update, self.warmup_steps, self.max_update)
        return self.final_lr + (self.base_lr - self.final_lr) * (1.0 + math.cos(math.pi * share)) / 2.0


def _share_done(num_update: int, warmup_steps: int, max_update: int) -> float:
    return (min(num_update, max_update) - warmup_steps) / (max_update - warmup_steps)


def _check_factor(factor: float) -> None:
    if factor > 1.0:
        raise SpecificationError(
            f"[lr_scheduler] factor must be at most 1, so that the rate falls; got {factor}."
        )


def _check_max_update(max_update: int, warmup_steps: int) -> None:
    if max_update <= warmup_steps:
        raise SpecificationError(
            f"[lr_scheduler] max_update must be greater than warmup_steps ({warmup_steps}); got {max_update}."
        )
