"""Block: a layer or a network, a tree of children and parameters.

What enters: arrays, through `__call__`. What leaves: the result of `forward`. `HybridBlock` (hybrid.py) can
run the same `forward` as one compiled plan.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from mxpipe import initializer, np
from mxpipe._native import Array
from mxpipe.errors import BlockError

from .files import read_arrays, write_arrays
from .parameter import Parameter, converted
from .summary import print_summary

__all__ = ["Block", "HookHandle"]

_Self = TypeVar("_Self", bound="Block")


class HookHandle:
    """Removes a hook, by `detach()` or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Callable[..., None]], hook: Callable[..., None]) -> None:
        self._hooks = hooks
        self._key = max(hooks, default=-1) + 1
        hooks[self._key] = hook

    def detach(self) -> None:
        """Remove the hook; a second call does nothing."""
        self._hooks.pop(self._key, None)

    def __enter__(self) -> HookHandle:
        return self

    def __exit__(self, *error: object) -> None:
        self.detach()


class Block:
    """Base of all layers and networks.

    Assigning a block or a parameter to an attribute registers it; names follow the structure
    ("features.0.weight"). A subclass defines `forward`.

    Example:
        >>> import mxpipe as mx
        >>> class Twice(mx.gluon.Block):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner = mx.gluon.nn.Dense(3, in_units=2)
        ...
        ...     def forward(self, x):
        ...         return self.inner(x) * 2
        >>> net = Twice()
        >>> net.initialize()
        >>> net(mx.np.ones((4, 2))).shape, list(net.collect_params())
        ((4, 3), ['inner.weight', 'inner.bias'])
    """

    def __init__(self) -> None:
        self._children: dict[str, Block] = {}
        self._reg_params: dict[str, Parameter] = {}
        self._forward_hooks: dict[int, Callable[..., None]] = {}
        self._forward_pre_hooks: dict[int, Callable[..., None]] = {}

    # ------------------------------------------------------------------------------------------- structure

    def __setattr__(self, name: str, value: Any) -> None:
        existing = self.__dict__.get(name)
        if isinstance(existing, Parameter | Block) and not isinstance(value, _family(existing)):
            raise BlockError(
                f"[{type(self).__name__}] attribute {name} must stay a {_family(existing).__name__}; "
                f"got {type(value).__name__}."
            )
        if isinstance(value, Parameter | Block) and "_children" not in self.__dict__:
            raise BlockError(
                f"[{type(self).__name__}] super().__init__() must run before {name} is assigned."
            )
        if isinstance(value, Block):
            self.register_child(value, name)
        elif isinstance(value, Parameter):
            value.name = name
            self._reg_params[name] = value
        super().__setattr__(name, value)

    def register_child(self, block: Block, name: str | None = None) -> None:
        """Make a block a child; attributes do so by themselves.

        Args:
            block: The child.
            name: Its structural name; its number where None.
        """
        self._children[str(len(self._children)) if name is None else name] = block

    @property
    def params(self) -> dict[str, Parameter]:
        """Parameters of this block alone, without its children's."""
        return self._reg_params

    def collect_params(self, select: str | None = None) -> dict[str, Parameter]:
        """Parameters of this block and all blocks below it, by structural name.

        Args:
            select: Regular expression that a name must match from its beginning, such as ".*weight|.*bias".
        """
        pattern = re.compile(select) if select is not None else None
        return {
            name: parameter
            for name, parameter in self._named_parameters("")
            if pattern is None or pattern.match(name)
        }

    def _named_parameters(self, prefix: str) -> Iterator[tuple[str, Parameter]]:
        self._warn_about_containers()
        for name, parameter in self._reg_params.items():
            yield prefix + name, parameter
        for name, child in self._children.items():
            yield from child._named_parameters(f"{prefix}{name}.")

    def _warn_about_containers(self) -> None:
        """Blocks in a plain list or dictionary are not children: nearly always a mistake."""
        for name, value in self.__dict__.items():
            if name in ("_children", "_forward_hooks", "_forward_pre_hooks"):
                continue
            items = (
                value.values()
                if isinstance(value, dict)
                else value
                if isinstance(value, list | tuple)
                else ()
            )
            if any(isinstance(item, Block) and item not in self._children.values() for item in items):
                warnings.warn(
                    f"{type(self).__name__}.{name} holds blocks that are not registered: "
                    "use nn.Sequential, or register_child.",
                    stacklevel=4,
                )

    def apply(self: _Self, function: Callable[[Block], Any]) -> _Self:
        """Call a function on every block below this one, then on this one; returns this block."""
        for child in self._children.values():
            child.apply(function)
        function(self)
        return self

    def __repr__(self) -> str:
        lines = [
            f"  ({name}): " + repr(child).replace("\n", "\n  ") for name, child in self._children.items()
        ]
        return f"{type(self).__name__}(" + "".join("\n" + line for line in lines) + ("\n)" if lines else ")")

    # ------------------------------------------------------------------------------------------ parameters

    def initialize(
        self,
        init: str | initializer.Initializer | None = None,
        device: Any = None,
        verbose: bool = False,
        force_reinit: bool = False,
    ) -> None:
        """Give all parameters their first values, as soon as their shapes are known.

        Args:
            init: For parameters without an initializer of their own; `Uniform(0.07)` where None.
            device: Accepted for programs that name one; there is one device.
            verbose: Print what is initialized, and how.
            force_reinit: Start anew where there are values.
        """
        default = initializer.create(init)
        seen: set[int] = set()
        for name, parameter in self.collect_params().items():
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if verbose:
                print(f"{name}: {parameter.init or default!r}")
            parameter.initialize(None, device, default, force_reinit)

    def cast(self, dtype: Any) -> None:
        """Convert all parameters to another type."""
        for child in self._children.values():
            child.cast(dtype)
        for parameter in self._reg_params.values():
            parameter.cast(dtype)

    def zero_grad(self) -> None:
        """Set all gradients to zero."""
        for parameter in self.collect_params().values():
            parameter.zero_grad()

    def setattr(self, name: str, value: Any) -> None:
        """Set an attribute of all parameters, such as `grad_req` or `lr_mult`."""
        for parameter in self.collect_params().values():
            setattr(parameter, name, value)

    def share_parameters(self: _Self, shared: Mapping[str, Parameter]) -> _Self:
        """Use the given parameters in place of this block's own of the same names; returns this block.

        Args:
            shared: Structural names to parameters, as `collect_params` of another block gives them.
        """
        for name, parameter in shared.items():
            owner: Block = self
            *path, last = name.split(".")
            for step in path:
                if step not in owner._children:
                    break
                owner = owner._children[step]
            else:
                if last in owner._reg_params:
                    own_name = parameter.name
                    setattr(owner, last, parameter)
                    parameter.name = own_name
        return self

    def save_parameters(self, filename: str | os.PathLike[str], deduplicate: bool = False) -> None:
        """Write all parameters to a safetensors file, under their structural names.

        Args:
            filename: The file, replaced as a whole or not at all.
            deduplicate: Write a shared parameter once, not under each of its names.

        Raises:
            StorageError: The file cannot be written.
        """
        seen: set[int] = set()
        arrays = {}
        for name, parameter in self.collect_params().items():
            if deduplicate and id(parameter) in seen:
                continue
            seen.add(id(parameter))
            arrays[name] = parameter.data()
        write_arrays(filename, arrays)

    def load_parameters(
        self,
        filename: str | os.PathLike[str],
        device: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
    ) -> None:
        """Read parameters that `save_parameters` wrote; initializes what was not.

        Args:
            filename: The file.
            device: Accepted for programs that name one; there is one device.
            allow_missing: Leave parameters alone that the file does not have.
            ignore_extra: Pass over what this block does not have.
            cast_dtype: Convert where the types differ, instead of refusing.
            dtype_source: The type after converting: "current" (the parameter's) or "saved" (the file's).

        Raises:
            ModelFormatError: The file is damaged.
            BlockError: Names, shapes or types do not fit; nothing was changed.
        """
        arrays, _ = read_arrays(filename)
        self._load(arrays, str(filename), allow_missing, ignore_extra, cast_dtype, dtype_source)

    def load_dict(
        self,
        param_dict: Mapping[str, Any],
        device: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
    ) -> None:
        """Set parameters from arrays by structural name; arguments and errors as in `load_parameters`."""
        self._load(param_dict, "param_dict", allow_missing, ignore_extra, cast_dtype, dtype_source)

    def _load(
        self,
        values: Mapping[str, Any],
        source: str,
        allow_missing: bool,
        ignore_extra: bool,
        cast_dtype: bool,
        dtype_source: str,
    ) -> None:
        if dtype_source not in ("current", "saved"):
            raise BlockError(f"[{source}] dtype_source must be current or saved; got {dtype_source!r}.")
        parameters = self.collect_params()
        found = {id(parameters[name]) for name in values if name in parameters}
        missing = [name for name, parameter in parameters.items() if id(parameter) not in found]
        if missing and not allow_missing:
            raise BlockError(f"[{source}] must hold every parameter; it lacks {_brief(missing)}.")
        extra = [name for name in values if name not in parameters]
        if extra and not ignore_extra:
            raise BlockError(
                f"[{source}] must hold only parameters of this block; got {_brief(extra)} as well."
            )
        arrays = {
            name: _checked(parameters[name], name, value, source, cast_dtype)
            for name, value in values.items()
            if name in parameters
        }
        for name, array in arrays.items():
            if cast_dtype and dtype_source == "saved":
                parameters[name].cast(array.dtype)
            parameters[name].set_data(array)

    # --------------------------------------------------------------------------------------------- running

    def __call__(self, *args: Any) -> Any:
        """Run the block: hooks around `forward`."""
        for hook in tuple(self._forward_pre_hooks.values()):
            hook(self, args)
        result = self._run(*args)
        for hook in tuple(self._forward_hooks.values()):
            hook(self, args, result)
        return result

    def _run(self, *args: Any) -> Any:
        for parameter in self._reg_params.values():
            if parameter.is_deferred:
                self.infer_shape(*args)
                parameter.finish_deferred_init()
        return self.forward(*args)

    def forward(self, *args: Any) -> Any:
        """What the block computes; a subclass defines it."""
        raise NotImplementedError(f"[{type(self).__name__}] a block must define forward.")

    def infer_shape(self, *args: Any) -> None:
        """Set the shapes of this block's own parameters from its inputs; needed where they are not given."""
        unknown = [name for name, parameter in self._reg_params.items() if parameter.is_deferred]
        raise BlockError(
            f"[{type(self).__name__}] shapes of {', '.join(unknown)} must be given, or set from the inputs "
            "by a method infer_shape."
        )

    def register_forward_pre_hook(self, hook: Callable[[Block, tuple[Any, ...]], None]) -> HookHandle:
        """Call `hook(block, inputs)` before each forward pass; it must not change them."""
        return HookHandle(self._forward_pre_hooks, hook)

    def register_forward_hook(self, hook: Callable[[Block, tuple[Any, ...], Any], None]) -> HookHandle:
        """Call `hook(block, inputs, outputs)` after each forward pass; it must not change them."""
        return HookHandle(self._forward_hooks, hook)

    def hybridize(self, active: bool = True, **options: Any) -> None:
        """Run the hybrid blocks below this one as compiled plans, or no longer."""
        for child in self._children.values():
            child.hybridize(active, **options)

    def summary(self, *inputs: Any) -> None:
        """Print the output shape and the number of parameters of every layer, for the given inputs."""
        print_summary(self, *inputs)


def _family(value: Parameter | Block) -> type:
    return Parameter if isinstance(value, Parameter) else Block


def _brief(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _checked(parameter: Parameter, name: str, value: Any, source: str, cast_dtype: bool) -> Array:
    array = value if isinstance(value, Array) else np.array(value)
    known = parameter.shape
    if known is not None and (
        len(known) != array.ndim
        or any(old > 0 and old != new for old, new in zip(known, array.shape, strict=True))
    ):
        raise BlockError(f"[{source}] {name} must have shape {known}; got {array.shape}.")
    if not cast_dtype and array is not converted(array, parameter.dtype):
        raise BlockError(
            f"[{source}] {name} must have type {parameter.dtype}; got {array.dtype}. "
            "Set cast_dtype=True to convert."
        )
    return array
