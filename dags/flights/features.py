"""What the model knows of a flight at its scheduled departure, what is expected of it, and how it is trained.

Plain data and nothing heavy: Airflow reads this at every parse, Spark derives the columns from it, the report
quotes it. All columns are known when the flight is scheduled to leave: the timetable, the aircraft, and the
weather up to that hour. Nothing is derived from how other flights fared.
"""

from __future__ import annotations

import math
from typing import Any

LABEL = "late"

# Caribbean airports are missing from the airports table; they are the ones at UTC-4.
_SCHEDULED_MINUTES = "pmod(arrival_minute - departure_minute - 60 * (coalesce(dest_tz, -4) + 5), 1440)"
_BEFORE = (
    "count(*) OVER (PARTITION BY origin, date ORDER BY departure_minute"
    " RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
)


def _cycle(minute: str, wave: int) -> dict[str, str]:
    """A time of day as a point on a circle, so that 23:59 lies beside 00:01."""
    prefix = minute.removesuffix("_minute")
    return {
        f"{prefix}_{function}{wave}": f"{function}({2 * math.pi * wave / 1440!r} * {minute})"
        for function in ("sin", "cos")
    }


# Column -> Spark SQL over the columns of flights.ingest. Rain and sight matter by their order of magnitude.
DERIVED: dict[str, str] = {
    **_cycle("departure_minute", 1),
    **_cycle("departure_minute", 2),
    **_cycle("arrival_minute", 1),
    **_cycle("arrival_minute", 2),
    "scheduled_minutes": _SCHEDULED_MINUTES,
    "slack_minutes": f"{_SCHEDULED_MINUTES} - 45 - distance / 8",
    "wind_east": "-wind_speed * sin(radians(coalesce(wind_dir, 0)))",
    "wind_north": "-wind_speed * cos(radians(coalesce(wind_dir, 0)))",
    "gust": "coalesce(wind_gust, 0)",
    "precip_log": "ln(1 + 100 * precip)",
    "precip_6h_log": "ln(1 + 100 * precip_6h)",
    "visib_log": "ln(1 + visib)",
    "region_precip_6h_log": "ln(1 + 100 * region_precip_6h)",
    "region_gust_filled": "coalesce(region_gust, 0)",
    "departures_before": _BEFORE,
    "carrier_origin": "concat(carrier, '-', origin)",
    "carrier_dest": "concat(carrier, '-', dest)",
    "origin_hour": "concat(origin, '-', hour)",
}

NUMERIC = [
    "distance",
    "scheduled_minutes",
    "slack_minutes",
    "departure_sin1",
    "departure_cos1",
    "departure_sin2",
    "departure_cos2",
    "arrival_sin1",
    "arrival_cos1",
    "arrival_sin2",
    "arrival_cos2",
    "seats",
    "plane_age",
    "temp",
    "dewp",
    "humid",
    "pressure",
    "wind_speed",
    "wind_east",
    "wind_north",
    "gust",
    "precip_log",
    "visib_log",
    "precip_6h_log",
    "visib_6h",
    "wind_6h",
    "pressure_3h",
    "temp_6h",
    "region_visib_6h",
    "region_precip_6h_log",
    "region_gust_filled",
    "departures_hour",
    "departures_carrier_hour",
    "departures_day",
    "departures_before",
]

CATEGORICAL = [
    "carrier",
    "origin",
    "dest",
    "tailnum",
    "model",
    "manufacturer",
    "engine",
    "hour",
    "day_of_week",
    "carrier_origin",
    "carrier_dest",
    "origin_hour",
]

# Rarer categories are one with the unknown ones: twenty flights say little about an aircraft.
PREPROCESSING: dict[str, Any] = {"min_count": 20}

_NUMBER = {"type": "float64"}
_TEXT = {"type": "string"}
_SINE = {**_NUMBER, "minimum": -1.0, "maximum": 1.0, "max_null_fraction": 0.0}
_WEATHER = {**_NUMBER, "max_null_fraction": 0.05}
_GAPPY_WEATHER = {**_NUMBER, "max_null_fraction": 0.25}  # the barometers are often silent
_COUNT = {**_NUMBER, "minimum": 0.0, "max_null_fraction": 0.0}

EXPECTATIONS: dict[str, Any] = {
    "minimum_rows": 10_000,
    "columns": {
        **{name: _SINE for name in NUMERIC if name.startswith(("departure_", "arrival_"))},
        **{name: _COUNT for name in NUMERIC if name.startswith("departures_")},
        **dict.fromkeys(("dewp", "wind_east", "wind_north", "temp_6h", "wind_6h"), _WEATHER),
        **{name: {**_WEATHER, "minimum": 0.0} for name in ("precip_log", "precip_6h_log", "visib_log")},
        **{
            name: {**_WEATHER, "minimum": 0.0}
            for name in ("gust", "region_precip_6h_log", "region_gust_filled")
        },
        **{name: {**_WEATHER, "minimum": 0.0, "maximum": 10.0} for name in ("visib_6h", "region_visib_6h")},
        "temp": {**_WEATHER, "minimum": -40.0, "maximum": 130.0},
        "humid": {**_WEATHER, "minimum": 0.0, "maximum": 100.0},
        "wind_speed": {**_WEATHER, "minimum": 0.0, "maximum": 100.0},
        "pressure": {**_GAPPY_WEATHER, "minimum": 900.0, "maximum": 1100.0},
        "pressure_3h": _GAPPY_WEATHER,
        "distance": {**_NUMBER, "minimum": 1.0, "maximum": 10_000.0, "max_null_fraction": 0.0},
        "scheduled_minutes": {**_NUMBER, "minimum": 1.0, "maximum": 1440.0, "max_null_fraction": 0.0},
        "slack_minutes": {**_NUMBER, "max_null_fraction": 0.0},
        "seats": {**_NUMBER, "minimum": 1.0, "maximum": 900.0, "max_null_fraction": 0.3},
        "plane_age": {**_NUMBER, "minimum": 0.0, "maximum": 80.0, "max_null_fraction": 0.3},
        "origin": {**_TEXT, "allowed": ["EWR", "JFK", "LGA"], "max_null_fraction": 0.0},
        **{name: {**_TEXT, "max_null_fraction": 0.0} for name in ("carrier", "dest", "hour", "day_of_week")},
        **{name: {**_TEXT, "max_null_fraction": 0.0} for name in CATEGORICAL if "_" in name},
        **{name: {**_TEXT, "max_null_fraction": 0.3} for name in ("model", "manufacturer", "engine")},
        "tailnum": {**_TEXT, "max_null_fraction": 0.02},
        LABEL: {"minimum": 0, "maximum": 1, "max_null_fraction": 0.0},
    },
    # One month's weather is not the next month's: drift is told, and judged by the holdout.
    "drift": {"columns": [*NUMERIC, *CATEGORICAL], "threshold": 0.25, "severity": "warning"},
}

# When a week has drifted from what the champion was trained on; see mxpipe.monitor.MonitorPolicy. One week's
# weather is never a season's, so of the inputs only timetable and fleet are watched; what the weather does
# shows in the predictions, and in how well they are borne out.
MONITOR: dict[str, Any] = {
    "minimum_rows": 3000,
    "columns": [
        *("carrier", "origin", "dest", "hour", "distance", "scheduled_minutes", "seats", "plane_age"),
        *("departures_hour", "departures_carrier_hour"),
    ],
    "psi": 0.25,
    "psi_columns": {"probability": 0.5},
    "performance": {"auc": 0.6},
    "cool_down_days": 21,
}

# When a candidate takes the champion's place; see mxpipe.train.gate.GatePolicy.
POLICY: dict[str, Any] = {}


def features() -> dict[str, Any]:
    """The columns and their roles, as a FeatureSpec reads them."""
    return {"numeric": NUMERIC, "categorical": CATEGORICAL, "label": LABEL}


def training(train_uri: str) -> dict[str, Any]:
    """How a candidate is trained: a TrainSpec as JSON.

    Every month has the same number of steps and not of epochs: more rows are more to learn from, not a
    reason to go over them as often. The values were chosen by forward chaining inside the training
    windows, never on a holdout.

    Args:
        train_uri: The training snapshot; a template will do.
    """
    steps = 300
    return {
        "model": {
            "builder": "wide_and_deep",
            "arguments": {
                "embedding_dims": 4,
                "hidden_units": [32],
                "norm": "layer",
                "activation": "relu",
                "dropout": 0.3,
                "embedding_dropout": 0.1,
            },
        },
        "data": {
            "train": train_uri,
            "features": features(),
            "batch_size": 1024,
            "preprocessing": PREPROCESSING,
        },
        "loss": "sigmoid_binary_cross_entropy",
        "optimizer": {"name": "adamw", "arguments": {"learning_rate": 0.002, "wd": 2.0}},
        "schedule": {"name": "cosine", "arguments": {"base_lr": 0.002, "warmup_steps": steps // 10}},
        "steps": steps,
        "seed": 20130101,
        "checkpoint": {"every_steps": 50},
        "threads": 1,  # a step is smaller than what a second thread costs
    }
