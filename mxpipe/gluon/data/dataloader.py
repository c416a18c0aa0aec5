"""DataLoader: batches of a dataset as arrays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy

from mxpipe import np
from mxpipe._native import Array
from mxpipe.errors import DataError

from .dataset import Dataset, SimpleDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = ["DataLoader", "default_batchify"]


def default_batchify(samples: Sequence[Any]) -> Any:
    """Stack samples; those of several parts give a list with an array for each part."""
    if isinstance(samples[0], tuple | list):
        return [default_batchify(part) for part in zip(*samples, strict=True)]
    if isinstance(samples[0], Array):
        return np.stack(list(samples), axis=0)
    return _as_array(numpy.asarray(samples))


def _as_array(values: Any) -> Any:
    """NumPy's default float becomes ours."""
    if isinstance(values, tuple | list):
        return [_as_array(part) for part in values]
    return np.array(values, dtype="float32" if values.dtype == numpy.float64 else values.dtype)


class DataLoader:
    """Iterates over a dataset in batches.

    Args:
        dataset: A dataset, or anything with a length and items.
        batch_size: Samples in a batch.
        shuffle: Take them in a new random order in each pass, decided by `mx.random.seed`.
        sampler: Gives the order, in place of `shuffle`.
        last_batch: "keep", "discard" or "rollover", as in `BatchSampler`.
        batch_sampler: Gives lists of numbers, in place of all of the above.
        batchify_fn: Joins a list of samples; stacks them where None.
        num_workers: Threads that prepare batches ahead of the loop; 0 prepares each when it is asked for.
        prefetch: Batches that are prepared ahead; twice the number of threads where None.

    Example:
        >>> import mxpipe as mx
        >>> data = mx.gluon.data.ArrayDataset(mx.np.ones((5, 2)), mx.np.zeros((5,)))
        >>> [x.shape for x, y in mx.gluon.data.DataLoader(data, batch_size=2)]
        [(2, 2), (2, 2), (1, 2)]
    """

    def __init__(
        self,
        dataset: Dataset | Sequence[Any],
        batch_size: int | None = None,
        shuffle: bool = False,
        sampler: Sampler | None = None,
        last_batch: str = "keep",
        batch_sampler: Sampler | None = None,
        batchify_fn: Callable[[Sequence[Any]], Any] | None = None,
        num_workers: int = 0,
        prefetch: int | None = None,
    ) -> None:
        self._dataset = dataset if isinstance(dataset, Dataset) else SimpleDataset(dataset)
        if batch_sampler is None:
            if batch_size is None:
                raise DataError("[DataLoader] batch_size or batch_sampler must be given; got neither.")
            if sampler is not None and shuffle:
                raise DataError("[DataLoader] shuffle must not be set beside a sampler; got both.")
            if sampler is None:
                sampler = (RandomSampler if shuffle else SequentialSampler)(len(self._dataset))
            batch_sampler = BatchSampler(sampler, batch_size, last_batch)
        elif batch_size is not None or shuffle or sampler is not None:
            raise DataError(
                "[DataLoader] batch_size, shuffle and sampler must not come beside a batch_sampler."
            )
        self._batch_sampler = batch_sampler
        self._batchify = batchify_fn
        self._num_workers = max(0, num_workers)
        self._prefetch = 2 * self._num_workers if prefetch is None else prefetch

    def __len__(self) -> int:
        return len(self._batch_sampler)

    def __iter__(self) -> Iterator[Any]:
        if not self._num_workers:
            yield from map(self._load, self._batch_sampler)
            return
        from concurrent.futures import ThreadPoolExecutor  # costs an import of mxpipe a few milliseconds

        with ThreadPoolExecutor(self._num_workers, thread_name_prefix="mxpipe-loader") as pool:
            waiting: deque[Any] = deque()
            try:
                for indices in self._batch_sampler:
                    waiting.append(pool.submit(self._load, indices))
                    if len(waiting) > self._prefetch:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _load(self, indices: Sequence[int]) -> Any:
        if self._batchify is None:
            joined = self._dataset.batch(indices)
            if joined is not None:
                return _as_array(joined)
        return (self._batchify or default_batchify)([self._dataset[index] for index in indices])
