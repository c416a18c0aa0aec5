"""The idempotency key K of a run: the same inputs give the same key, whenever and however often they run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_CODE = (".py", ".json", ".yaml", ".yml", ".toml", ".sql")


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys.

    Example:
        >>> digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_code(paths: Iterable[str | Path]) -> str:
    """SHA-256 of source files; folders count with the source files below them, in order of their names.

    Example:
        >>> digest_code([])[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    for path in map(Path, paths):
        inside = sorted(file for file in path.rglob("*") if file.suffix in _CODE) if path.is_dir() else [path]
        for file in inside:
            content = file.read_bytes()
            digest.update(f"{file.name}:{len(content)}:".encode())
            digest.update(content)
    return digest.hexdigest()


def run_key(dag_id: str, partition: str, data_digest: str, config_digest: str) -> str:
    """K = sha256(DAG, partition, data, code and configuration). Never the clock.

    Example:
        >>> run_key("flight_delays", "2013-01", "aa", "bb")[:8]
        '8e5d653d'
    """
    return digest_json([dag_id, partition, data_digest, config_digest])
