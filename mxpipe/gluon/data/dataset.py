"""Datasets: samples by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy

from mxpipe._native import Array
from mxpipe.errors import DataError

__all__ = ["ArrayDataset", "Dataset", "SimpleDataset"]


class Dataset:
    """Base of all datasets; a subclass defines `__len__` and `__getitem__`."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError

    def batch(self, indices: Sequence[int]) -> Any:
        """Samples joined into arrays at once, or None where they must be joined one by one."""
        return None

    def transform(self, function: Callable[..., Any], lazy: bool = True) -> Dataset:
        """The same samples through a function, called with the parts of a sample.

        Args:
            function: Gives the new sample.
            lazy: Call it at each access, not once for all samples now.
        """
        changed = _TransformedDataset(self, function)
        return changed if lazy else SimpleDataset([changed[index] for index in range(len(changed))])

    def transform_first(self, function: Callable[[Any], Any], lazy: bool = True) -> Dataset:
        """The same samples, the first part (the data, beside a label) through a function."""
        return self.transform(_First(function), lazy)

    def filter(self, function: Callable[[Any], bool]) -> Dataset:
        """Samples for which a function is true."""
        return _SubDataset(self, [index for index in range(len(self)) if function(self[index])])

    def take(self, count: int) -> Dataset:
        """The first samples."""
        return _SubDataset(self, range(min(count, len(self))))

    def shard(self, num_shards: int, index: int) -> Dataset:
        """One of several parts of nearly equal size.

        Raises:
            DataError: There is no such part.
        """
        if not 0 <= index < num_shards:
            raise DataError(f"[shard] index must lie in [0, {num_shards}); got {index}.")
        size, longer = divmod(len(self), num_shards)
        begin = size * index + min(index, longer)
        return _SubDataset(self, range(begin, begin + size + (index < longer)))


class SimpleDataset(Dataset):
    """A list of samples.

    Args:
        data: Anything with a length and items.
    """

    def __init__(self, data: Sequence[Any]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return self._data[index]


class ArrayDataset(Dataset):
    """Arrays of the same length; a sample is a row of each.

    Args:
        args: Arrays, NumPy arrays or lists.

    Example:
        >>> import mxpipe as mx
        >>> data = ArrayDataset(mx.np.arange(6).reshape((3, 2)), [0, 1, 0])
        >>> len(data), data[1][1]
        (3, 1)
    """

    def __init__(self, *args: Any) -> None:
        if not args:
            raise DataError("[ArrayDataset] there must be an array; got none.")
        lengths = [len(values) for values in args]
        if len(set(lengths)) > 1:
            raise DataError(f"[ArrayDataset] arrays must have one length; got {lengths}.")
        self._arrays = [
            values.asnumpy() if isinstance(values, Array) and str(values.dtype) != "bfloat16" else values
            for values in args
        ]

    def __len__(self) -> int:
        return len(self._arrays[0])

    def __getitem__(self, index: int) -> Any:
        parts = tuple(values[index] for values in self._arrays)
        return parts[0] if len(parts) == 1 else parts

    def batch(self, indices: Sequence[int]) -> Any:
        """Rows gathered at once where all arrays are NumPy arrays."""
        if not all(isinstance(values, numpy.ndarray) for values in self._arrays):
            return None
        parts = tuple(values[numpy.asarray(indices, dtype=numpy.int64)] for values in self._arrays)
        return parts[0] if len(parts) == 1 else parts


class _SubDataset(Dataset):
    def __init__(self, dataset: Dataset, indices: Iterable[int]) -> None:
        self._dataset = dataset
        self._indices = list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Any:
        return self._dataset[self._indices[index]]

    def batch(self, indices: Sequence[int]) -> Any:
        return self._dataset.batch([self._indices[index] for index in indices])


class _TransformedDataset(Dataset):
    def __init__(self, dataset: Dataset, function: Callable[..., Any]) -> None:
        self._dataset = dataset
        self._function = function

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Any:
        sample = self._dataset[index]
        return self._function(*sample) if isinstance(sample, tuple) else self._function(sample)


class _First:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __call__(self, first: Any, *rest: Any) -> Any:
        return (self._function(first), *rest) if rest else self._function(first)
