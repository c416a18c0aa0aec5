"""Dask for mxpipe: snapshots written, and models applied, by a Dask cluster's own workers."""

from __future__ import annotations
