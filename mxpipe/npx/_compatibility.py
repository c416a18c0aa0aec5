"""What programs written for MXNet 2 call around their arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from mxpipe._native import Array
from mxpipe.device import Device, cpu
from mxpipe.errors import OperatorError


def set_np(shape: bool = True, array: bool = True, dtype: bool = False) -> None:
    """Switch to NumPy semantics. They are always on here, so that nothing is to be done.

    Args:
        shape: Taken for compatibility.
        array: Taken for compatibility.
        dtype: Taken for compatibility.

    Example:
        >>> npx.set_np()
    """


def reset_np() -> None:
    """Switch off what `set_np` switched on. NumPy semantics stay on here.

    Example:
        >>> npx.reset_np()
    """


def is_np_array() -> bool:
    """Whether NumPy semantics are on: always.

    Example:
        >>> npx.is_np_array()
        True
    """
    return True


def current_device() -> Device:
    """Where new arrays live.

    Example:
        >>> npx.current_device()
        cpu(0)
    """
    return cpu()


def save(file: str | os.PathLike[str], arr: Array | Sequence[Array] | Mapping[str, Array]) -> None:
    """Write arrays to a safetensors file, aside and then renamed into place.

    Args:
        file: The file to create or replace.
        arr: Arrays by name; a list or a single array is named "0", "1", ... bfloat16 is written as float32.

    Raises:
        OperatorError: Something else than arrays is given.
        StorageError: The disk is full; the file is as it was before.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     npx.save(f"{folder}/arrays", {"weight": np.ones(2)})
        ...     npx.load(f"{folder}/arrays")
        {'weight': array([1., 1.])}
    """
    from mxpipe.model.safetensors import write_safetensors

    if isinstance(arr, Array):
        arr = [arr]
    named = dict(arr) if isinstance(arr, Mapping) else {str(i): x for i, x in enumerate(arr)}
    for name, x in named.items():
        if not isinstance(x, Array):
            raise OperatorError(f"[save] {name} must be an array; got {type(x).__name__}.")
    write_safetensors(file, {name: x.asnumpy() for name, x in named.items()})


def load(file: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a safetensors file.

    Args:
        file: A file that `save` or another program wrote.

    Returns:
        Arrays by name; bfloat16 becomes float32.

    Raises:
        ModelFormatError: The file is damaged; the message names the file and the field.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     npx.save(f"{folder}/arrays", [np.zeros(2), np.ones(1)])
        ...     npx.load(f"{folder}/arrays")["1"]
        array([1.])
    """
    from mxpipe.model.safetensors import read_safetensors
    from mxpipe.np import array

    return {name: array(values) for name, values in read_safetensors(file).tensors.items()}
