"""mxpipe for Airflow: the stages of scheduled retraining as operators.

What enters: Airflow's context and small JSON manifests (URIs, digests, ids). What leaves: the next manifest,
under 8 KB. Who calls it: Airflow's workers and triggerer, through DAGs such as ``dags/flight_delays.py``.

::

    hooks/mxpipe.py      where things are: run root, tracking server, launcher (connection type ``mxpipe``)
    operators/           ingest, data, champion, train, tune, evaluate, infra, registry, serve, canary, batch,
                         monitor: one file a group of stages
    patterns.py          runs of stages that most pipelines share
    decorators/          the training and the evaluation in TaskFlow style
    triggers/            wait for a training job, with progress in the task's log; for drift and versions
    sensors/             tasks that wait for drift or for a new version
    notifications/       tell people of a gate's decision
    assets/ lineage.py   ``mxpipe://`` addresses, and what a stage tells OpenLineage
    links/               from a task to MLflow, reports and servers
    sql.py               rows of a database as record batches
    settling.py          closes the MLflow run of a job that could not do it itself
    keys.py              the idempotency key K of a run
    errors.py            which errors Airflow may retry
"""

from __future__ import annotations
