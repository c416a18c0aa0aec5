"""Parameters: the arrays that a block learns, and when they come into being.

A parameter may not know its shape before the first forward pass (0 stands for an unknown extent). It is then
initialized when its block has seen an input. Its array stays the same object for its life: `set_data`,
loading and training write into it, so compiled plans that captured it stay valid.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy

from mxpipe import initializer, np
from mxpipe._native import Array, assign
from mxpipe.device import Device, cpu
from mxpipe.errors import BlockError, DeferredInitializationError
from mxpipe.sparse import RowSparseArray

__all__ = ["Constant", "Parameter"]

_GRAD_REQUESTS = ("write", "add", "null")


class Parameter:
    """An array that a block owns and a trainer updates.

    Args:
        name: Its name inside its block; assigning it to an attribute of a block sets it.
        grad_req: "write" replaces the gradient at each backward, "add" accumulates until `zero_grad`, "null"
            keeps none.
        shape: Its shape; 0 (or -1) where an extent is not known yet.
        dtype: Its type.
        lr_mult: Multiplies the learning rate.
        wd_mult: Multiplies the weight decay.
        init: Its own initializer, before that of the block.
        allow_deferred_init: Whether it may wait for the first forward pass.
        differentiable: False is the same as `grad_req="null"` for good.
        grad_stype: "default" or "row_sparse": whether the gradient is a `RowSparseArray`.

    Example:
        >>> import mxpipe as mx
        >>> weight = mx.gluon.Parameter("weight", shape=(2, 3))
        >>> weight.initialize(init="ones")
        >>> weight.data().shape, weight.grad().shape
        ((2, 3), (2, 3))
    """

    def __init__(
        self,
        name: str = "parameter",
        grad_req: str = "write",
        shape: int | tuple[int, ...] | None = None,
        dtype: Any = "float32",
        lr_mult: float = 1.0,
        wd_mult: float = 1.0,
        init: str | initializer.Initializer | None = None,
        allow_deferred_init: bool = False,
        differentiable: bool = True,
        grad_stype: str = "default",
    ) -> None:
        if grad_stype not in ("default", "row_sparse"):
            raise BlockError(f"[Parameter] grad_stype must be default or row_sparse; got {grad_stype!r}.")
        self.name = name
        self.lr_mult = lr_mult
        self.wd_mult = wd_mult
        self.init = init
        self.grad_stype = grad_stype
        self._dtype = dtype
        self._shape = (shape,) if isinstance(shape, int) else None if shape is None else tuple(shape)
        self._allow_deferred_init = allow_deferred_init
        self._differentiable = differentiable
        self._data: Array | None = None
        self._deferred: initializer.Initializer | None = None
        self._grad_req = "null"
        self.grad_req = grad_req

    def __repr__(self) -> str:
        return f"Parameter {self.name} (shape={self._shape}, dtype={dtype_name(self.dtype)})"

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Its shape, with 0 for what is not known yet."""
        return self._shape

    @shape.setter
    def shape(self, shape: tuple[int, ...]) -> None:
        known = self._shape
        if known is not None and (
            len(known) != len(shape)
            or any(old > 0 and old != new for old, new in zip(known, shape, strict=True))
        ):
            raise BlockError(f"[{self.name}] the new shape must agree with {known}; got {tuple(shape)}.")
        self._shape = tuple(shape)

    @property
    def dtype(self) -> Any:
        """Its type."""
        return self._dtype if self._data is None else self._data.dtype

    @property
    def grad_req(self) -> str:
        """What backward does with its gradient: "write", "add" or "null"."""
        return self._grad_req

    @grad_req.setter
    def grad_req(self, request: str) -> None:
        if request not in _GRAD_REQUESTS:
            raise BlockError(f"[{self.name}] grad_req must be one of {_GRAD_REQUESTS}; got {request!r}.")
        request = request if self._differentiable else "null"
        if request != self._grad_req:
            self._grad_req = request
            if self._data is not None:
                self._data.attach_grad(request)

    @property
    def is_deferred(self) -> bool:
        """Whether it waits for the first forward pass."""
        return self._deferred is not None

    def initialize(
        self,
        init: str | initializer.Initializer | None = None,
        device: Any = None,
        default_init: str | initializer.Initializer | None = None,
        force_reinit: bool = False,
    ) -> None:
        """Give it its first value, now or once its shape is known.

        Args:
            init: Initializer; the parameter's own `init` where None, then `default_init`, then `Uniform()`.
            device: Accepted for programs that name one; there is one device.
            default_init: What to fall back on.
            force_reinit: Replace a value that exists.
        """
        if self._data is not None and not force_reinit:
            warnings.warn(
                f"parameter {self.name} is already initialized: nothing done. "
                "Set force_reinit=True to start anew.",
                stacklevel=2,
            )
            return
        chosen = initializer.create(
            init if init is not None else self.init if self.init is not None else default_init
        )
        self._deferred = chosen
        if self._shape_known():
            self.finish_deferred_init()
        elif not self._allow_deferred_init:
            self._deferred = None
            raise BlockError(f"[{self.name}] the shape must be known to initialize; got {self._shape}.")

    def finish_deferred_init(self) -> None:
        """Initialize now what waited for its shape; does nothing where nothing waits."""
        if self._deferred is None:
            return
        if not self._shape_known():
            raise DeferredInitializationError(
                f"[{self.name}] the shape must be known after the first forward pass; got {self._shape}. "
                "A block of your own with such a parameter needs an infer_shape method."
            )
        chosen, self._deferred = self._deferred, None
        self._store(chosen(self.name, self._shape or (), self._dtype))

    def data(self, device: Any = None) -> Array:
        """Its array.

        Raises:
            DeferredInitializationError: It waits for the first forward pass.
            BlockError: It was never initialized.
        """
        if self._data is None:
            raise self._without_data()
        return self._data

    def grad(self, device: Any = None) -> Array | RowSparseArray:
        """Its gradient, as the last backward left it: zeros before the first.

        Returns:
            An array of the parameter's shape, or for `grad_stype="row_sparse"` a `RowSparseArray`.

        Raises:
            BlockError: It keeps no gradient, or has no value.
        """
        gradient = self.raw_grad()
        if isinstance(gradient, tuple):
            return RowSparseArray(*gradient, self._shape or ())
        return gradient

    def raw_grad(self) -> Array | tuple[Array, Array]:
        """Its gradient as backward made it: for a row-sparse one the pair (ids, rows)."""
        if self._grad_req == "null":
            raise BlockError(f"[{self.name}] grad_req must not be null to have a gradient.")
        data = self.data()
        gradient: Array | tuple[Array, Array] = data.grad
        if self.grad_stype == "row_sparse" and not isinstance(gradient, tuple) and not data.fresh_grad:
            return np.zeros((0,), dtype="int64"), np.zeros((0, *(self._shape or ())[1:]), dtype=self.dtype)
        return gradient

    def list_data(self) -> list[Array]:
        """Its array on each device: there is one."""
        return [self.data()]

    def list_grad(self) -> list[Array | RowSparseArray]:
        """Its gradient on each device: there is one."""
        return [self.grad()]

    def list_device(self) -> list[Device]:
        """The devices that hold it: one."""
        return [cpu()]

    def set_data(self, data: Any) -> None:
        """Write a value; the first one also settles the shape of a parameter that waits for it.

        Args:
            data: Array (or what NumPy takes for one) of its shape; converted to its type.
        """
        values = data if isinstance(data, Array) else np.array(data)
        self.shape = values.shape
        if self._data is None:
            self._deferred = None
            self._store(converted(values, self._dtype).copy())
        else:
            assign(self._data, converted(values, self._data.dtype))

    def zero_grad(self) -> None:
        """Set its gradient to zero; does nothing where it keeps none."""
        if self._grad_req != "null" and self._data is not None:
            self._data.attach_grad(self._grad_req)

    def cast(self, dtype: Any) -> None:
        """Convert to another type; the gradient starts at zero."""
        if self._data is not None and dtype_name(self._data.dtype) != dtype_name(dtype):
            self._store(self._data.astype(dtype))
        self._dtype = dtype

    def _store(self, data: Array) -> None:
        self._data = data.detach()
        if self._grad_req != "null":
            self._data.attach_grad(self._grad_req)

    def _shape_known(self) -> bool:
        return self._shape is not None and all(extent > 0 for extent in self._shape)

    def _without_data(self) -> BlockError:
        if self._deferred is not None:
            return DeferredInitializationError(
                f"[{self.name}] a parameter must have a shape before it is read; it waits for the first "
                f"forward pass, having shape {self._shape}."
            )
        return BlockError(
            f"[{self.name}] a parameter must be initialized before it is read: call initialize()."
        )


class Constant(Parameter):
    """A parameter that training leaves alone; saved with the others.

    Args:
        value: Its value, an array or what NumPy takes for one.
    """

    def __init__(self, value: Any, name: str = "constant") -> None:
        array = value if isinstance(value, Array) else np.array(value)
        self.value = array
        super().__init__(
            name,
            grad_req="null",
            shape=array.shape,
            dtype=array.dtype,
            init=initializer.Constant(array),
            differentiable=False,
        )

    def __repr__(self) -> str:
        return f"Constant {self.name} (shape={self.shape}, dtype={dtype_name(self.dtype)})"


def dtype_name(dtype: Any) -> str:
    """Name of a type, "float32": a common ground for names, NumPy types and scalar classes."""
    return dtype if isinstance(dtype, str) else numpy.dtype(dtype).name


def converted(array: Array, dtype: Any) -> Array:
    """The array in another type, or itself where it has that type."""
    return array if dtype_name(array.dtype) == dtype_name(dtype) else array.astype(dtype)
