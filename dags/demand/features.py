"""What the forecast knows, what is expected of its rows, and how it is trained. Plain data and nothing heavy.

A row is an airport and an hour. It holds the departures of each hour of the last three days, how far behind
its timetable the airport was in them, and what is known of the hour to be forecast, a day ahead: its place in
the day and the week, and what happened at the same hour one and two weeks before it.
"""

from __future__ import annotations

from typing import Any

LABEL = "departures_ahead"
BASELINE = "week_before"  # the forecast that costs nothing
AHEAD_HOURS = 24
PAST_HOURS = 72
WEEK_HOURS = 168

# Oldest first; the last is the row's own hour.
PAST = [f"departures_{hour:02d}" for hour in range(PAST_HOURS)]
DELAYS = [f"delay_{hour:02d}" for hour in range(PAST_HOURS)]
KNOWN = [BASELINE, "two_weeks_before", "hour_sin1", "hour_cos1", "hour_sin2", "hour_cos2"]
CATEGORICAL = ["origin", "hour_ahead", "weekday_ahead"]
NUMERIC = [*PAST, *DELAYS, *KNOWN]

_COUNT = {"type": "float64", "minimum": 0.0, "maximum": 200.0, "max_null_fraction": 0.0}
_DELAY = {"type": "float64", "minimum": -5.0, "maximum": 15.0}

EXPECTATIONS: dict[str, Any] = {
    "minimum_rows": 2000,
    "columns": {
        **dict.fromkeys((*PAST, BASELINE, "two_weeks_before", LABEL), _COUNT),
        **dict.fromkeys(DELAYS, _DELAY),
        "origin": {"type": "string", "allowed": ["EWR", "JFK", "LGA"], "max_null_fraction": 0.0},
    },
    "drift": {"columns": [PAST[-1], DELAYS[-1], *CATEGORICAL], "threshold": 0.25, "severity": "warning"},
}

# The candidate must beat the same hour of the week before, in each window of the backtest and on the holdout.
POLICY: dict[str, Any] = {
    "metric": "mae",
    "at_least": {"skill": 0.0},
    "minimum_rows": 400,
    "when_undecided": "PROMOTE",
}

BUILDER = "demand.network:build"


def training(train_uri: str) -> dict[str, Any]:
    """How a candidate is trained: a TrainSpec as JSON.

    Args:
        train_uri: The training snapshot; a template will do.
    """
    steps = 300
    return {
        "model": {"builder": BUILDER, "arguments": {"past_hours": PAST_HOURS, "hidden_size": 32}},
        "data": {
            "train": train_uri,
            "features": {"numeric": NUMERIC, "categorical": CATEGORICAL, "label": LABEL},
            "batch_size": 256,
            "preprocessing": {"shared": [[*PAST, BASELINE, "two_weeks_before"], DELAYS]},
        },
        "loss": {"name": "huber", "arguments": {"rho": 2.0}},
        "optimizer": {"name": "adam", "arguments": {"learning_rate": 0.004}},
        "schedule": {"name": "cosine", "arguments": {"base_lr": 0.004, "warmup_steps": steps // 10}},
        "steps": steps,
        "seed": 20130301,
        "checkpoint": {"every_steps": 100},
    }
