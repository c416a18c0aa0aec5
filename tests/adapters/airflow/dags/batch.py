"""Snapshots from a database, from files and from Dask, and batch predictions by every engine."""

from airflow.sdk import DAG

from mxpipe_airflow.operators.batch import MxpipeBatchPredictOperator
from mxpipe_airflow.operators.ingest import (
    MxpipeDaskIngestOperator,
    MxpipeFileIngestOperator,
    MxpipeSqlIngestOperator,
)


def flights_by_dask(scratch, files):
    import dask.dataframe

    frame = dask.dataframe.read_csv(files)
    return frame[["id", "distance"]], {"files": 2}


with DAG("batch", schedule=None, render_template_as_native_obj=True) as dag:
    MxpipeSqlIngestOperator(
        task_id="sql",
        database="warehouse",
        sql="SELECT id, carrier, distance, cancelled FROM flights WHERE id < :limit",
        arguments={"limit": 900},
        version="SELECT count(*), max(id) FROM flights",
        sort_by=["id"],
        types={"cancelled": "string"},
        batch_rows=100,
        partition="2013-01",
        retries=0,
    )
    MxpipeFileIngestOperator(
        task_id="files",
        files="{{ dag_run.conf['files'] }}",
        types={"id": "int32"},
        partition="2013-01",
        retries=0,
    )
    MxpipeDaskIngestOperator(
        task_id="dask",
        dataframe=flights_by_dask,
        arguments={"files": "{{ dag_run.conf['files'] }}"},
        sort_by=["id"],
        partition="2013-01",
        retries=0,
    )
    for engine, options in (("local", {}), ("dask", {"workers": 2}), ("spark", {"master": "local[2]"})):
        MxpipeBatchPredictOperator(
            task_id=f"predict_{engine}",
            snapshot_uri="{{ dag_run.conf['snapshot'] }}",
            model_uri="{{ dag_run.conf['model'] }}",
            keys=["id"],
            engine=engine,
            engine_options=options,
            max_refused="{{ dag_run.conf.get('max_refused', 1.0) }}",
            retries=1,
        )
