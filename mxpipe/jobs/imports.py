"""What a submitter can import, its job can import: folders that the job's search path must have.

A DAG's folder is on the path of the task that submits, and not on that of a process of its own. Only names
that the submitting code allowed are looked up, and none of them is imported here.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
from collections.abc import Iterable
from pathlib import Path


def search_path(names: Iterable[str]) -> str:
    """The value of PYTHONPATH with which a process of this interpreter imports these names.

    Args:
        names: `package.module:function` texts; names without a colon are entry points, and left alone.

    Example:
        >>> search_path(["json:loads"]) == os.environ.get("PYTHONPATH", "")
        True
    """
    given = [folder for folder in os.environ.get("PYTHONPATH", "").split(os.pathsep) if folder]
    own = {str(Path(folder).resolve()) for folder in sys.path if folder}
    usual = {str(Path(folder).resolve()) for folder in (*site.getsitepackages(), *_standard())}
    for name in names:
        if ":" not in name:
            continue
        folder = _folder_of(name)
        if folder in own - usual and folder not in given:
            given.append(folder)
    return os.pathsep.join(given)


def _standard() -> list[str]:
    return [str(Path(os.__file__).parent), str(Path(os.__file__).parent / "lib-dynload")]


def _folder_of(name: str) -> str:
    """The folder from which the package of a name is imported here; "" where there is none."""
    package = name.partition(":")[0].partition(".")[0]
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None:  # only the job's own environment may have it; if not, the job says so
        return ""
    if spec.submodule_search_locations:
        return str(Path(next(iter(spec.submodule_search_locations))).resolve().parent)
    return str(Path(spec.origin).resolve().parent) if spec.has_location and spec.origin else ""
