"""What the tests of training share."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

SMALL_DISK_BYTES = 2_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in a process that may write no file of more than 2 MB: beyond it, as on a full disk."""
    folder = tmp_path / "disk"
    folder.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_DISK_BYTES, hard))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
