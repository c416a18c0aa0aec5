"""What parameters hold before training.

An initializer maps (name, shape, dtype) to an array. Random ones draw from `mx.random`, so the same seed and
the same order of initialization give the same network.

Example:
    >>> import mxpipe as mx
    >>> mx.init.Constant(2.0)("weight", (2,), "float32").asnumpy().tolist()
    [2.0, 2.0]
    >>> mx.init.create("xavier", magnitude=2)
    Xavier(rnd_type='uniform', factor_type='avg', magnitude=2)
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from . import np
from ._native import Array
from .errors import SpecificationError

__all__ = [
    "Constant",
    "Initializer",
    "MSRAPrelu",
    "Normal",
    "One",
    "TruncNorm",
    "Uniform",
    "Xavier",
    "Zero",
    "create",
    "register",
]

_registry: dict[str, type[Initializer]] = {}


class Initializer:
    """Base of all initializers; a subclass defines `_initial`.

    Random draws are made in float32 (float64 for float64 parameters) and then rounded to the parameter's
    type.
    """

    def __init__(self, **arguments: Any) -> None:
        self._arguments = arguments

    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
        """Values for a parameter.

        Args:
            name: Its name, for messages.
            shape: Its shape, fully known.
            dtype: Its type.
        """
        wanted = np.zeros((), dtype=dtype).dtype
        drawn = wanted if wanted in (numpy.float32, numpy.float64) else numpy.dtype("float32")
        values = self._initial(name, tuple(shape), drawn)
        return values if values.dtype == wanted else values.astype(wanted)

    def _initial(self, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> Array:
        raise NotImplementedError

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self._arguments.items())
        return f"{type(self).__name__}({arguments})"


def register(kind: type[Initializer]) -> type[Initializer]:
    """Class decorator: make an initializer known to `create` by its name in lower case."""
    _registry[kind.__name__.lower()] = kind
    return kind


def create(init: str | Initializer | None, **arguments: Any) -> Initializer:
    """An initializer from its name ("xavier", "zeros").

    An initializer is returned as it is, None means `Uniform()`.

    Raises:
        SpecificationError: No initializer has this name.
    """
    if init is None:
        return Uniform()
    if isinstance(init, Initializer):
        return init
    if init.lower() not in _registry:
        raise SpecificationError(
            f"[initializer] must be one of {', '.join(sorted(_registry))}; got {init!r}."
        )
    return _registry[init.lower()](**arguments)


@register
class Constant(Initializer):
    """One value everywhere, or the given array."""

    def __init__(self, value: Any) -> None:
        super().__init__(value=value)
        self.value = value

    def __call__(self, name: str, shape: tuple[int, ...], dtype: Any = "float32") -> Array:
        """The value, exact in every type."""
        if numpy.isscalar(self.value):
            return np.full(shape, self.value, dtype=dtype)
        values = np.array(self.value, dtype=dtype)
        if values.shape != tuple(shape):
            raise SpecificationError(
                f"[initializer] a constant for {name} must have its shape {tuple(shape)}; got {values.shape}."
            )
        return values


@register
class Zero(Constant):
    """Zeros."""

    def __init__(self) -> None:
        super().__init__(0)
        self._arguments = {}


@register
class One(Constant):
    """Ones."""

    def __init__(self) -> None:
        super().__init__(1)
        self._arguments = {}


_registry.update(zeros=Zero, ones=One)


@register
class Uniform(Initializer):
    """Uniform in [-scale, scale)."""

    def __init__(self, scale: float = 0.07) -> None:
        super().__init__(scale=scale)
        self.scale = scale

    def _initial(self, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> Array:
        return np.random.uniform(-self.scale, self.scale, size=shape, dtype=dtype)


@register
class Normal(Initializer):
    """Normal with mean 0 and standard deviation `sigma`."""

    def __init__(self, sigma: float = 0.01) -> None:
        super().__init__(sigma=sigma)
        self.sigma = sigma

    def _initial(self, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> Array:
        return np.random.normal(0.0, self.sigma, size=shape, dtype=dtype)


@register
class TruncNorm(Initializer):
    """Normal with `mean` and `stdev`, restricted to two standard deviations around the mean.

    `stdev` is that of the normal before the restriction, as in MXNet. Values outside are drawn again.
    """

    def __init__(self, mean: float = 0.0, stdev: float = 0.01) -> None:
        super().__init__(mean=mean, stdev=stdev)
        self.mean = mean
        self.stdev = stdev

    def _initial(self, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> Array:
        values = np.random.normal(0.0, 1.0, size=shape, dtype=dtype)
        while (numpy.abs(values.asnumpy()) > 2.0).any():
            again = np.random.normal(0.0, 1.0, size=shape, dtype=dtype)
            values = np.where(np.abs(values) > 2.0, again, values)
        return values * self.stdev + self.mean


@register
class Xavier(Initializer):
    """Variance balanced between fan in and fan out.

    Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward neural networks".

    Args:
        rnd_type: "uniform" in [-c, c) or "gaussian" with standard deviation c, c = sqrt(magnitude / factor).
        factor_type: "avg", "in" or "out": which fan the factor is.
        magnitude: 3 gives uniform weights a variance of 1 / factor.
    """

    def __init__(self, rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3) -> None:
        super().__init__(rnd_type=rnd_type, factor_type=factor_type, magnitude=magnitude)
        if rnd_type not in ("uniform", "gaussian"):
            raise SpecificationError(f"[initializer] rnd_type must be uniform or gaussian; got {rnd_type!r}.")
        if factor_type not in ("avg", "in", "out"):
            raise SpecificationError(
                f"[initializer] factor_type must be avg, in or out; got {factor_type!r}."
            )
        self.rnd_type = rnd_type
        self.factor_type = factor_type
        self.magnitude = magnitude

    def _initial(self, name: str, shape: tuple[int, ...], dtype: numpy.dtype) -> Array:
        if len(shape) < 2:
            raise SpecificationError(
                f"[initializer] {type(self).__name__} needs at least two axes, {name} has shape {shape}; "
                "give this parameter an initializer of its own."
            )
        receptive = math.prod(shape[2:])
        fan_in, fan_out = shape[1] * receptive, shape[0] * receptive
        factor = {"avg": (fan_in + fan_out) / 2.0, "in": fan_in, "out": fan_out}[self.factor_type]
        scale = math.sqrt(self.magnitude / max(factor, 1.0))
        if self.rnd_type == "uniform":
            return np.random.uniform(-scale, scale, size=shape, dtype=dtype)
        return np.random.normal(0.0, scale, size=shape, dtype=dtype)


@register
class MSRAPrelu(Xavier):
    """He initialization for layers followed by a (leaky) rectifier.

    He, Zhang, Ren and Sun 2015, "Delving deep into rectifiers".

    Args:
        factor_type: "avg", "in" or "out".
        slope: Slope of the rectifier below zero.
    """

    def __init__(self, factor_type: str = "avg", slope: float = 0.25) -> None:
        super().__init__("gaussian", factor_type, 2.0 / (1.0 + slope**2))
        self._arguments = {"factor_type": factor_type, "slope": slope}
