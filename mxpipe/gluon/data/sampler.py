"""Samplers: in which order samples are taken, and how they are put into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from mxpipe import np
from mxpipe.errors import DataError

__all__ = ["BatchSampler", "RandomSampler", "Sampler", "SequentialSampler"]


class Sampler:
    """Base of all samplers; a subclass defines `__len__` and `__iter__`."""

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError


class SequentialSampler(Sampler):
    """The numbers from `start` on, in order.

    Args:
        length: How many.
        start: The first.
    """

    def __init__(self, length: int, start: int = 0) -> None:
        self._length = length
        self._start = start

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._start + self._length))


class RandomSampler(Sampler):
    """The numbers from 0 on in a random order, another one for each pass, that `mx.random.seed` decides.

    Args:
        length: How many.
    """

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        keys = np.random.uniform(0.0, 1.0, size=(self._length,), dtype="float64").asnumpy()
        return iter(numpy.argsort(keys, kind="stable").tolist())


class BatchSampler(Sampler):
    """Lists of numbers.

    Args:
        sampler: Gives the numbers.
        batch_size: Length of a list.
        last_batch: What becomes of numbers that do not fill a batch: "keep" a shorter one, "discard" them, or
            "rollover": put them at the beginning of the next pass.

    Example:
        >>> list(BatchSampler(SequentialSampler(5), 2, "keep"))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Sampler, batch_size: int, last_batch: str = "keep") -> None:
        if batch_size < 1:
            raise DataError(f"[BatchSampler] batch_size must be positive; got {batch_size}.")
        if last_batch not in ("keep", "discard", "rollover"):
            raise DataError(
                f"[BatchSampler] last_batch must be keep, discard or rollover; got {last_batch!r}."
            )
        self._sampler = sampler
        self._batch_size = batch_size
        self._last_batch = last_batch
        self._left: list[int] = []

    def __len__(self) -> int:
        if self._last_batch == "keep":
            return -(-len(self._sampler) // self._batch_size)
        return (len(self._left) + len(self._sampler)) // self._batch_size

    def __iter__(self) -> Iterator[list[int]]:
        batch, self._left = self._left, []
        for number in self._sampler:
            batch.append(number)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch and self._last_batch == "keep":
            yield batch
        elif self._last_batch == "rollover":
            self._left = batch
