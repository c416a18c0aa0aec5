"""Departures an hour as rows of a forecast, from the flights of 2013.

What enters: the table of flights of :mod:`flights.sources`. What leaves: an Arrow table with a row for each
airport and hour whose label was known before a day. Who calls it: the ingest stage, in which alone pandas is
imported.

A column of a row is made of hours up to its own, ``time``; the label lies a day later. Nothing in between is
read.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flights.sources import unpack

from demand.features import (
    AHEAD_HOURS,
    BASELINE,
    DELAYS,
    LABEL,
    PAST,
    PAST_HOURS,
    WEEK_HOURS,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_COLUMNS = ["year", "month", "day", "hour", "minute", "origin", "dep_time", "dep_delay"]
_HISTORY_HOURS = 2 * WEEK_HOURS  # what a row reaches back to, as seen from the hour it forecasts


def departures_until(scratch: Path, before: str) -> tuple[pa.Table, dict[str, Any]]:
    """Rows whose label is an hour before a day.

    Args:
        scratch: Where the source files are unpacked.
        before: ISO date; departures of this day and later are not looked at.

    Returns:
        The rows in the order of time and airport, and the counts ``departures``, ``rows``, ``airports``.
    """
    import pandas as pd
    import pyarrow as pa

    flights = pd.read_csv(unpack(scratch)["flights"], usecols=_COLUMNS)
    scheduled = pd.to_datetime(flights[["year", "month", "day", "hour", "minute"]])
    flights["left"] = (scheduled + pd.to_timedelta(flights["dep_delay"], unit="min")).dt.floor("h")
    flights = flights[flights["dep_time"].notna() & (flights["left"] < pd.Timestamp(before))]
    hours = pd.date_range("2013-01-01", before, freq="h", inclusive="left")
    parts = [_rows_of(airport, part, hours) for airport, part in flights.groupby("origin")]
    rows = pd.concat(parts).sort_values(["time", "origin"], kind="stable")
    notes = {"departures": len(flights), "rows": len(rows), "airports": len(parts)}
    return pa.Table.from_pandas(rows, preserve_index=False), notes


def _rows_of(airport: str, flights: pd.DataFrame, hours: pd.DatetimeIndex) -> pd.DataFrame:
    """All rows of one airport."""
    import numpy as np
    import pandas as pd

    by_hour = flights.groupby("left")["dep_delay"]
    departures = by_hour.size().reindex(hours, fill_value=0).to_numpy(np.float64)
    # Minutes late, by their order of magnitude: an hour of chaos is not ten hours of trouble.
    late = by_hour.mean().clip(lower=0).reindex(hours, fill_value=0.0).to_numpy(np.float64)
    delay = np.log1p(late) / math.log(2.0)
    last = len(hours) - AHEAD_HOURS  # later hours have no label yet
    at = np.arange(_HISTORY_HOURS - AHEAD_HOURS, last)  # row numbers of the hours that rows are made of
    past = at[:, None] + np.arange(1 - PAST_HOURS, 1)
    ahead = hours[at + AHEAD_HOURS]
    angle = 2 * math.pi * ahead.hour.to_numpy(np.float64) / 24
    columns: dict[str, Any] = {
        "time": hours[at].strftime("%Y-%m-%d %H:00"),
        "date": ahead.strftime("%Y-%m-%d"),
        "origin": np.full(at.size, airport, dtype=object),
        "hour_ahead": ahead.strftime("%H"),
        "weekday_ahead": ahead.day_name(),
        **dict(zip(PAST, departures[past].T, strict=True)),
        **dict(zip(DELAYS, delay[past].T, strict=True)),
        BASELINE: departures[at + AHEAD_HOURS - WEEK_HOURS],
        "two_weeks_before": departures[at + AHEAD_HOURS - 2 * WEEK_HOURS],
        **{f"hour_{wave.__name__}{k}": wave(k * angle) for k in (1, 2) for wave in (np.sin, np.cos)},
        LABEL: departures[at + AHEAD_HOURS],
    }
    return pd.DataFrame(columns)
