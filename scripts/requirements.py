"""Print what pyproject.toml asks for: what the build needs, and what the named extras bring, one a line.

Usage: requirements.py EXTRA[,EXTRA...]. Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def requirements(project: dict[str, Any], extras: list[str]) -> Iterator[str]:
    """Requirements of extras, references to other extras of the same project followed."""
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            own = re.fullmatch(rf"{project['name']}\[([^]]+)\]", line.replace(" ", ""))
            if own:
                yield from requirements(project, own.group(1).split(","))
            else:
                yield line


def main() -> int:
    """Print each requirement once."""
    configuration = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    project = configuration["project"]
    wanted = [
        *configuration["build-system"]["requires"],
        "cmake",
        "ninja",
        *project["dependencies"],
        *requirements(project, sys.argv[1].split(",")),
    ]
    print("\n".join(dict.fromkeys(wanted)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
