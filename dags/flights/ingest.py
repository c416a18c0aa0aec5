"""Flights as they are known at their scheduled departure, by Spark.

What enters: the tables of :mod:`flights.sources`. What leaves: one DataFrame with a row for each flight that
arrived, and a count of those that did not. Who calls it: the ingest stage, in which alone PySpark is
imported.

Every column is known when the flight is scheduled to leave: the timetable, the aircraft, the airports, and
the weather up to that hour. What happened afterwards is read for the label alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flights import features
from flights.sources import unpack

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame, SparkSession

LATE_MINUTES = 15
USED_TWICE = ("outcome", "station_weather")  # counted and joined; joined and gathered by region
ORDER = ("date", "departure_minute", "origin", "carrier", "flight", "tailnum", "dest")

# Types are said, not guessed: a source that changes fails here and not three stages later.
SCHEMAS = {
    "flights": """
        year INT, month INT, day INT, dep_time INT, sched_dep_time INT, dep_delay DOUBLE, arr_time INT,
        sched_arr_time INT, arr_delay DOUBLE, carrier STRING, flight INT, tailnum STRING, origin STRING,
        dest STRING, air_time DOUBLE, distance DOUBLE, hour INT, minute INT, time_hour TIMESTAMP""",
    "weather": """
        origin STRING, year INT, month INT, day INT, hour INT, temp DOUBLE, dewp DOUBLE, humid DOUBLE,
        wind_dir DOUBLE, wind_speed DOUBLE, wind_gust DOUBLE, precip DOUBLE, pressure DOUBLE, visib DOUBLE,
        time_hour TIMESTAMP""",
    "planes": """
        tailnum STRING, year INT, type STRING, manufacturer STRING, model STRING, engines INT, seats INT,
        speed DOUBLE, engine STRING""",
    "airports": """
        faa STRING, name STRING, lat DOUBLE, lon DOUBLE, alt DOUBLE, tz DOUBLE, dst STRING, tzone STRING""",
}

# Everything that is read from after the scheduled departure: for the label, and to count what has none.
OUTCOME = """
    SELECT *,
           dep_time IS NULL                            AS cancelled,
           dep_time IS NOT NULL AND arr_delay IS NULL  AS diverted,
           CAST(arr_delay > {late} AS INT)             AS late
      FROM flights
"""

TIMETABLE = """
    SELECT *,
           make_date(year, month, day)                                   AS date,
           hour * 60 + minute                                            AS departure_minute,
           sched_arr_time DIV 100 * 60 + sched_arr_time % 100            AS arrival_minute,
           weekday(make_date(year, month, day)) + 1                      AS day_of_week,
           dayofyear(make_date(year, month, day))                        AS day_of_year,
           count(*) OVER (PARTITION BY origin, time_hour)                AS departures_hour,
           count(*) OVER (PARTITION BY origin, carrier, time_hour)       AS departures_carrier_hour,
           count(*) OVER (PARTITION BY origin, year, month, day)         AS departures_day,
           count(*) OVER (PARTITION BY dest, time_hour)                  AS arrivals_hour,
           row_number() OVER aircraft                                    AS leg,
           hour * 60 + minute - lag(hour * 60 + minute) OVER aircraft    AS tail_gap
      FROM outcome
    WINDOW aircraft AS (PARTITION BY tailnum, year, month, day ORDER BY hour, minute, origin, flight)
"""

# A sensor at EWR once said 1048 miles an hour. Gaps of the weather stay gaps, and the model is told so.
WEATHER = """
    SELECT origin, time_hour, temp, dewp, humid, wind_dir, pressure, visib, precip,
           IF(wind_speed < 100, wind_speed, NULL)                           AS wind_speed,
           IF(wind_gust < 100, wind_gust, NULL)                             AS wind_gust,
           sum(precip) OVER last_3h                                         AS precip_3h,
           sum(precip) OVER last_6h                                         AS precip_6h,
           min(visib) OVER last_6h                                          AS visib_6h,
           avg(IF(wind_speed < 100, wind_speed, NULL)) OVER last_6h         AS wind_6h,
           max(IF(wind_gust < 100, wind_gust, NULL)) OVER last_6h           AS gust_6h,
           pressure - max(pressure) OVER hour_3_before                      AS pressure_3h,
           temp - max(temp) OVER hour_6_before                              AS temp_6h
      FROM weather
    WINDOW last_3h AS (PARTITION BY origin ORDER BY unix_timestamp(time_hour)
                       RANGE BETWEEN 10799 PRECEDING AND CURRENT ROW),
           last_6h AS (PARTITION BY origin ORDER BY unix_timestamp(time_hour)
                       RANGE BETWEEN 21599 PRECEDING AND CURRENT ROW),
           hour_3_before AS (PARTITION BY origin ORDER BY unix_timestamp(time_hour)
                             RANGE BETWEEN 10800 PRECEDING AND 10800 PRECEDING),
           hour_6_before AS (PARTITION BY origin ORDER BY unix_timestamp(time_hour)
                             RANGE BETWEEN 21600 PRECEDING AND 21600 PRECEDING)
"""

REGION = """
    SELECT time_hour, min(visib_6h) AS region_visib_6h, max(precip_6h) AS region_precip_6h,
           max(wind_gust) AS region_gust
      FROM station_weather
     GROUP BY time_hour
"""

JOINED = """
    SELECT timetable.*,
           temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib,
           precip_3h, precip_6h, visib_6h, wind_6h, gust_6h, pressure_3h, temp_6h,
           region_visib_6h, region_precip_6h, region_gust,
           planes.year AS plane_year, timetable.year - planes.year AS plane_age, planes.type AS plane_type,
           manufacturer, model, engines, seats, engine,
           there.lat AS dest_lat, there.lon AS dest_lon, there.alt AS dest_alt, there.tz AS dest_tz
      FROM timetable
      LEFT JOIN station_weather ON station_weather.origin = timetable.origin
                               AND station_weather.time_hour = timetable.time_hour
      LEFT JOIN region ON region.time_hour = timetable.time_hour
      LEFT JOIN planes ON planes.tailnum = timetable.tailnum
      LEFT JOIN airports AS there ON there.faa = timetable.dest
"""


def flights_until(spark: SparkSession, scratch: Path, before: str) -> tuple[DataFrame, dict[str, Any]]:
    """Flights that were scheduled to leave before a day, with everything that was known then.

    Args:
        spark: The session.
        scratch: Where the source files are unpacked.
        before: ISO date; flights of this day and later are left out.

    Returns:
        The rows, and the counts: ``flights``, ``cancelled``, ``diverted``, ``rows``,
        ``late``.
    """
    tables = unpack(scratch)
    for name, path in tables.items():
        frame = spark.read.csv(
            str(path), schema=SCHEMAS[name], header=True, nullValue="NA", enforceSchema=False, mode="FAILFAST"
        )
        frame.createOrReplaceTempView(name)
    known = spark.table("flights").where(f"make_date(year, month, day) < DATE '{before}'")
    known.createOrReplaceTempView("flights")
    steps = {
        "outcome": OUTCOME.format(late=LATE_MINUTES),
        "timetable": TIMETABLE,
        "station_weather": WEATHER,
        "region": REGION,
    }
    for name, query in steps.items():
        step = spark.sql(query)
        step.createOrReplaceTempView(name)
        if name in USED_TWICE:
            step.cache()
    counted = spark.sql(
        "SELECT count(*) AS flights, count_if(cancelled) AS cancelled, count_if(diverted) AS diverted,"
        " count(late) AS rows, count_if(late = 1) AS late FROM outcome"
    ).first()
    assert counted is not None
    return select_features(spark.sql(JOINED)), {name: int(value) for name, value in counted.asDict().items()}


def flights_between(
    spark: SparkSession, scratch: Path, first: str, before: str
) -> tuple[DataFrame, dict[str, Any]]:
    """Flights that were scheduled to leave from one day to another, as :func:`flights_until` has them.

    Args:
        spark: The session.
        scratch: Where the source files are unpacked.
        first: ISO date of the first day.
        before: ISO date; flights of this day and later are left out.
    """
    rows, notes = flights_until(spark, scratch, before)
    return rows.where(f"date >= DATE '{first}'"), {"first": first, "before": before, "until": notes}


def select_features(joined: DataFrame) -> DataFrame:
    """The model's columns, typed, of the flights that arrived."""
    for name, expression in features.DERIVED.items():
        joined = joined.selectExpr("*", f"{expression} AS {name}")
    columns = [f"CAST({name} AS DOUBLE) AS {name}" for name in features.NUMERIC]
    columns += [f"CAST({name} AS STRING) AS {name}" for name in features.CATEGORICAL]
    kept = {*features.NUMERIC, *features.CATEGORICAL}
    columns += [name for name in ORDER if name not in kept]
    return joined.where("late IS NOT NULL").selectExpr(*columns, "late")
