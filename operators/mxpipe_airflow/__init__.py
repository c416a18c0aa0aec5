"""mxpipe for Airflow: the stages of scheduled retraining as operators.

What enters: Airflow's context and small JSON manifests (URIs, digests, ids). What leaves: the next manifest,
under 8 KB. Who calls it: Airflow's workers and triggerer, through DAGs such as ``dags/flight_delays.py``.

::

    hooks/            where things are: run root, tracking server, launcher (connection type ``mxpipe``)
    operators/        one file a group of stages; base.py is what they share
    decorators/       ``@task.mxpipe_train``, ``@task.mxpipe_evaluate``
    sensors/          wait within a run for a version or for drift
    triggers/         the same, and training jobs, in the triggerer; their import paths never change
    assets/           ``mxpipe://`` addresses
    links/            from a task's page to MLflow, a report, a server
    notifications/    tell people what a gate has decided
    patterns.py       runs of stages that most pipelines share
    keys.py           the idempotency key K of a run
    errors.py         which errors Airflow may retry
    lineage.py        what a stage has read and made, for OpenLineage
"""

from __future__ import annotations
