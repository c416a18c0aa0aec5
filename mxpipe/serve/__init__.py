"""An inference server over one model that follows its alias.

What enters: HTTP requests of raw feature columns (Open Inference Protocol V2, MLflow's ``/invocations``), and
a model folder or a registry alias chosen on the command line. What leaves: predictions, health, metrics, and
a small state file by which a pipeline finds the server again. Who calls it: ``mxpipe serve``, and the deploy
stage of a pipeline through :mod:`mxpipe.serve.process`.

In the order in which a request passes through them:

==================  ===============================================================================
``cli``, ``server``  the command line; the process: socket, signals, refresh thread, state file
``app``              routes, admission (bounded concurrency, body limits), one JSON error form
``open_inference``   V2 JSON <-> columns
``invocations``      MLflow's four JSON forms and CSV <-> columns
``columns``          the model's raw columns as rules: which values a request may hold
``router``, ``split`` canary by hash and shadow beside it; ``measure``: what is measured by version
``slot``             the model being served, swapped atomically and drained
``sources``          where versions come from: a folder, or a resolver of a registry
``process``          start, find and stop a detached server (standard library only)
``client``           read and set a server's split (standard library only)
==================  ===============================================================================

Importing this package imports neither Starlette nor uvicorn (extra ``serve``): only ``app`` and ``server``
do.
"""
