"""Data in memory, in batches: for experiments. Training jobs read snapshots (`mxpipe.data`)."""

from __future__ import annotations

from .dataloader import DataLoader, default_batchify
from .dataset import ArrayDataset, Dataset, SimpleDataset
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "default_batchify",
]
