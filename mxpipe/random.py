"""The random state: one seed and one counter.

Every call of a random op takes one tick of the counter, eager and compiled alike, and draws from the
counter-based Philox generator. (seed, counter) therefore says everything that a resumed run needs to go on
with the same numbers, whatever the number of threads.

Example:
    >>> import mxpipe as mx
    >>> mx.random.seed(7)
    >>> state = mx.random.get_state()
    >>> first = mx.np.random.uniform(size=(2,)).asnumpy()
    >>> mx.random.set_state(state)
    >>> bool((mx.np.random.uniform(size=(2,)).asnumpy() == first).all())
    True
"""

from __future__ import annotations

from collections.abc import Mapping

from . import _native
from .errors import SpecificationError

__all__ = ["get_state", "seed", "set_state"]


def seed(value: int) -> None:
    """Start the random numbers anew.

    Args:
        value: Any integer from 0 to 2**64 - 1.
    """
    set_state({"seed": value, "counter": 0})


def get_state() -> dict[str, int]:
    """The present state, a dictionary of two integers that can be written as JSON."""
    number, counter = _native.random_state()
    return {"seed": number, "counter": counter}


def set_state(state: Mapping[str, int]) -> None:
    """Go on from a state that `get_state` returned.

    Raises:
        SpecificationError: An entry is missing or no integer from 0 to 2**64 - 1.
    """
    for name in ("seed", "counter"):
        value = state.get(name)
        if not isinstance(value, int) or not 0 <= value < 2**64:
            raise SpecificationError(
                f"[random] {name} must be an integer from 0 to 2**64 - 1; got {value!r}."
            )
    _native.set_random_state(state["seed"], state["counter"])
