"""Arrays in safetensors files, bfloat16 included, which NumPy does not have."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy

from mxpipe import np
from mxpipe._native import Array

__all__ = ["read_arrays", "write_arrays"]


def write_arrays(
    filename: str | os.PathLike[str], arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write arrays by name, replacing the file as a whole or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    from mxpipe.model.safetensors import write_safetensors

    narrow = {name for name, array in arrays.items() if str(array.dtype) == "bfloat16"}
    tensors = {name: _bits(array) if name in narrow else array.asnumpy() for name, array in arrays.items()}
    write_safetensors(filename, tensors, metadata, bfloat16=narrow)


def read_arrays(filename: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """Read arrays by name, and the file's metadata.

    Raises:
        ModelFormatError: The file is damaged.
    """
    from mxpipe.model.safetensors import read_safetensors, read_safetensors_header

    file = read_safetensors(filename)
    codes = {name: entry.code for name, entry in read_safetensors_header(filename).items()}
    arrays = {
        name: np.array(values, dtype="bfloat16" if codes[name] == "BF16" else values.dtype)
        for name, values in file.tensors.items()
    }
    return arrays, file.metadata


def _bits(array: Array) -> numpy.ndarray:
    """The upper halves of the float32 numbers that hold the bfloat16 ones exactly."""
    return (array.asnumpy().view(numpy.uint32) >> numpy.uint32(16)).astype(numpy.uint16)
