"""How requests are split between versions: a share for a canary by hash, and a shadow that answers nobody.

Enters: checked columns, or a request's id. Leaves: which rows the canary answers. The split is a pure
function of the row (or the id) and the share: the same row goes to the same version on every server, after
every restart, and whatever other rows come with it; a greater share only adds rows. Without an id rows are
split one by one.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.errors import RequestError
from mxpipe.model.storage import write_json
from mxpipe.serve.columns import ColumnValues

UInt64Array = npt.NDArray[np.uint64]

LONGEST_LEASE_SECONDS = 86400.0
_MISSING = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Split:
    """Which versions take part beside the one that the source names.

    Attributes:
        canary: Version that answers a share of the rows; None for none.
        share: That share, from 0 to 1.
        shadow: Version that is asked after the answer is sent, and compared; None for none.

    Raises:
        RequestError: The share is no share.

    Example:
        >>> Split.from_json({"canary": "4", "share": 0.1}).to_json()
        {'canary': '4', 'share': 0.1, 'shadow': None}
    """

    canary: str | None = None
    share: float = 0.0
    shadow: str | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.share, int | float) and not isinstance(self.share, bool)
        if not number or not 0.0 <= self.share <= 1.0:
            raise RequestError(f"[split] share must be from 0 to 1; got {self.share!r}.")
        for name in ("canary", "shadow"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value):
                raise RequestError(f"[split] {name} must be a version or null; got {value!r}.")

    @property
    def versions(self) -> tuple[str, ...]:
        """The versions that take part, each once."""
        return tuple(dict.fromkeys(version for version in (self.canary, self.shadow) if version))

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> Split:
        """From JSON values.

        Raises:
            RequestError: It is no split.
        """
        if not isinstance(value, Mapping) or set(value) - {"canary", "share", "shadow"}:
            raise RequestError("[split] must be an object of canary, share and shadow.")
        return cls(**value)


def buckets(columns: Mapping[str, ColumnValues], rows: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each row, from its values alone.

    Equal numbers are equal whatever their type, and NaN is a missing value.

    Args:
        columns: Checked columns.
        rows: Number of rows.

    Returns:
        float64, shape (rows,).

    Example:
        >>> pair = buckets({"hour": np.array([7, 8]), "carrier": ["UA", None]}, 2)
        >>> bool(pair[0] == buckets({"carrier": ["UA"], "hour": [7.0]}, 1)[0])
        True
    """
    names, words = [], np.empty((len(columns), rows), dtype=np.uint64)
    texts = {name: values for name, values in columns.items() if _is_text(values)}
    for place, (name, values) in enumerate(texts.items()):
        words[place] = [_MISSING if value is None else _digest(value) for value in values]
        names.append(name)
    # All columns of numbers in one go: for single rows NumPy's calls are what costs.
    numbers = np.empty((len(columns) - len(texts), rows), dtype=np.float64)
    for place, name in enumerate(name for name in columns if name not in texts):
        numbers[place] = columns[name]  # None becomes NaN
        names.append(name)
    words[len(texts) :] = np.where(np.isnan(numbers), _MISSING, (numbers + 0.0).view(np.uint64))
    keys = np.array([_digest(name) for name in names], dtype=np.uint64)
    total = np.add.reduce(_mixed(words ^ keys[:, np.newaxis]), axis=0)
    return (_mixed(total) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def bucket_of_id(request_id: str) -> float:
    """A number in [0, 1) for a request's id.

    Example:
        >>> 0.0 <= bucket_of_id("order-1") < 1.0
        True
    """
    return (_digest(request_id) >> 11) * 2.0**-53


def _is_text(values: ColumnValues) -> bool:
    return not isinstance(values, np.ndarray) and any(isinstance(value, str) for value in values)


def _mixed(state: UInt64Array) -> UInt64Array:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        state = state + _MISSING
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: UInt64Array = state ^ (state >> np.uint64(31))
    return mixed


@functools.lru_cache(maxsize=65536)
def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


@dataclass(frozen=True)
class Lease:
    """A split for a time: whoever set it renews it, and where nobody does, the split before comes back.

    Attributes:
        before: The split to come back to.
        seconds: Time after which it does.

    Raises:
        RequestError: The time is none.
    """

    before: Split
    seconds: float

    def __post_init__(self) -> None:
        number = isinstance(self.seconds, int | float) and not isinstance(self.seconds, bool)
        if not number or not 0.0 < self.seconds <= LONGEST_LEASE_SECONDS:
            raise RequestError(
                f"[split] lease_seconds must be above 0 and at most {LONGEST_LEASE_SECONDS:g}; "
                f"got {self.seconds!r}."
            )


def write_split(path: Path, reference: str, split: Split, lease: Lease | None = None) -> None:
    """Replace the file by which a split survives a restart.

    Args:
        path: The file.
        reference: What the server serves; see :class:`~mxpipe.serve.sources.ModelSource`.
        split: The split.
        lease: Where it holds for a time only.

    Raises:
        StorageError: The disk is full or read-only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"reference": reference, "split": split.to_json()}
    if lease is not None:
        content["lease"] = {"before": lease.before.to_json(), "seconds": lease.seconds}
    write_json(path, content)


def read_split(path: Path, reference: str) -> tuple[Split, Lease | None]:
    """The split that a server of the same reference left; none where there is no such file."""
    try:
        content = json.loads(path.read_text())
        if content["reference"] != reference:
            return Split(), None
        lease = content.get("lease")
        held = Lease(Split.from_json(lease["before"]), lease["seconds"]) if lease else None
        return Split.from_json(content["split"]), held
    except (OSError, ValueError, KeyError, TypeError):
        return Split(), None
