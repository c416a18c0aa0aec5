"""Rows a second of batch prediction in Spark: our path against MLflow's ``spark_udf``, on the flight model.

Both read the same Parquet files, carry one key through and throw the result away; they take turns, and the
first round does not count. A third figure is ours with everything that a pipeline needs: shards of a snapshot
in, predictions, counts and statistics durable on disk.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "dags"))

from flights import features
from flights.ingest import ORDER, flights_until

from mxpipe.batch import PredictionOptions
from mxpipe.data import Snapshot
from mxpipe.train import TrainSpec, fit

KEY = "flight"


def prepare(spark: Any, folder: Path, before: str, copies: int) -> tuple[Snapshot, Path, Path]:
    """The flight model, MLflow's copy of it, and the rows as a snapshot and as Parquet."""
    import mxpipe_mlflow
    import mxpipe_spark

    frame, _ = flights_until(spark, folder / "scratch", before)
    train = mxpipe_spark.write_snapshot(frame, folder / "train", sort_by=ORDER)
    model = fit(TrainSpec.from_json(features.training(train.uri)), folder / "run").model_path
    mxpipe_mlflow.save_model(model, folder / "mlflow")
    columns = list(dict.fromkeys([KEY, *features.NUMERIC, *features.CATEGORICAL]))
    frame.select(columns).write.parquet(str(folder / "once"))
    rows = spark.read.parquet(*[str(folder / "once")] * copies)
    rows.repartition(4).write.parquet(str(folder / "parquet"))
    many = spark.read.parquet(str(folder / "parquet"))
    return mxpipe_spark.write_snapshot(many, folder / "rows"), model, folder / "mlflow"


def rate(run: Callable[[int], object], rows: int, number: int) -> float:
    began = time.perf_counter()
    run(number)
    return rows / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", default="2013-03-01", help="flights of 2013 up to this day")
    parser.add_argument("--copies", type=int, default=6, help="how often the rows are repeated")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    import mlflow
    from pyspark.sql.functions import struct

    import mxpipe_spark

    with (
        tempfile.TemporaryDirectory() as place,
        mxpipe_spark.local_session("benchmark", memory="2g") as spark,
    ):
        folder = Path(place)
        snapshot, model, mlflow_model = prepare(spark, folder, options.before, options.copies)
        frame = spark.read.parquet(str(folder / "parquet"))
        names = [
            column.name for column in mlflow.pyfunc.load_model(str(mlflow_model)).metadata.signature.inputs
        ]
        udf = mlflow.pyfunc.spark_udf(spark, str(mlflow_model), result_type="double", env_manager="local")
        chosen = PredictionOptions(keys=[KEY])

        def ours(_: int) -> None:
            mxpipe_spark.predict(frame, model, chosen).write.format("noop").mode("overwrite").save()

        def theirs(_: int) -> None:
            scored = frame.select(KEY, udf(struct(*names)).alias("late"))
            scored.write.format("noop").mode("overwrite").save()

        def published(number: int) -> None:
            mxpipe_spark.predict_snapshot(spark, snapshot, model, folder / f"late-{number}", chosen)

        ways = {"spark_udf": theirs, "mxpipe_spark.predict": ours, "predict_snapshot": published}
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(options.rounds + 1):
            for name, run in ways.items():
                rates[name].append(rate(run, snapshot.num_rows, number))
                print(f"round {number}  {name:24}{rates[name][-1]:12,.0f} rows/s", flush=True)
        print(f"{snapshot.num_rows:,} rows of {len(names)} columns, {spark.sparkContext.master}")
        best = statistics.median(rates["spark_udf"][1:])
        for name, measured in rates.items():
            middle = statistics.median(measured[1:])
            print(f"{name:24}{middle:12,.0f} rows/s{middle / best:8.2f} x", flush=True)


if __name__ == "__main__":
    main()
