"""mxpipe for Airflow: the stages of scheduled retraining as operators.

What enters: Airflow's context and small JSON manifests (URIs, digests, ids). What leaves: the next manifest,
under 8 KB. Who calls it: Airflow's workers and triggerer, through DAGs such as ``dags/flight_delays.py``.

::

    hooks/mxpipe.py      where things are: run root, tracking server (connection type ``mxpipe``)
    operators/           champion, data, train, evaluate, registry, serve: one file a group of stages
    triggers/job.py      waits for a training job in the triggerer, with progress in the task's log
    keys.py              the idempotency key K of a run
    errors.py            which errors Airflow may retry
"""

from __future__ import annotations
