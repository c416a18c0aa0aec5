"""Check two rules of the house that no linter knows.

1. C++ includes point down: graph < ops < passes < exec < bind. Kernels see graph types and themselves only.
2. A source file can be read in one sitting: 600 lines at most.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LONGEST = 600
SOURCES = (".py", ".pyi", ".cpp", ".hpp", ".h", ".cu", ".sh")
GENERATED = {"mxpipe/_core.pyi"}
MAY_INCLUDE = {
    "graph": {"graph"},
    "kernels": {"graph", "kernels"},
    "ops": {"graph", "ops"},
    "passes": {"graph", "ops", "passes"},
    "exec": {"graph", "kernels", "ops", "passes", "exec"},
    "data": {"graph", "exec", "data"},
    "bind": {"graph", "kernels", "ops", "passes", "exec", "data", "bind"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([a-z_]+)/')


def tracked(root: Path) -> list[Path]:
    """Files that git tracks, or would track, and that are still there."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [root / name for name in listing.splitlines() if (root / name).is_file()]


def wrong_includes(path: Path, layer: str) -> Iterator[str]:
    """Includes of a C++ file that point to a layer it must not know."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = INCLUDE.match(line)
        if found and found.group(1) in MAY_INCLUDE and found.group(1) not in MAY_INCLUDE[layer]:
            allowed = ", ".join(sorted(MAY_INCLUDE[layer]))
            yield f"{path}:{number}: [layers] {layer}/ may include {allowed} only; got {found.group(1)}/."


def main() -> int:
    """Print each offence on its own line; exit status 1 if there is one."""
    root = Path(__file__).parents[1]
    offences: list[str] = []
    for path in tracked(root):
        relative = path.relative_to(root)
        if path.suffix not in SOURCES or relative.as_posix() in GENERATED:
            continue
        length = len(path.read_text().splitlines())
        if length > LONGEST:
            offences.append(f"{relative}:1: [length] a file must have at most {LONGEST} lines; got {length}.")
        if relative.parts[0] == "native" and len(relative.parts) > 2 and relative.parts[1] in MAY_INCLUDE:
            offences.extend(wrong_includes(path, relative.parts[1]))
    print("\n".join(offences))
    return 1 if offences else 0


if __name__ == "__main__":
    sys.exit(main())
