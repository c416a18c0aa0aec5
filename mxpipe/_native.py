"""The native core, by its public names. Only this module imports `mxpipe._core`.

`invoke(op, inputs, attributes)` is the one door to the ops: it computes at once, is recorded under
`autograd.record`, or adds to the graph while a function is traced.
"""

from __future__ import annotations

import importlib
import os

# An OpenMP thread that waits for another one spins for up to 14 ms by default. Where another process has
# taken that one's core, the rule inside a pipeline, a training step took 250 ms instead of 8 (two cores).
# 1000 turns (50 us) still bridge the gap between two regions. The library reads this when it is loaded: now.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from ._core import (
    Array,
    CompiledFunction,
    DependencyEngine,
    Graph,
    PlanProfile,
    RowGather,
    RowOrder,
    RowSource,
    SuspendTrace,
    Traced,
    Variable,
    Vocabulary,
    array,
    assign,
    backward,
    data_copy_count,
    get_num_threads,
    grad,
    invoke,
    is_recording,
    is_tracing,
    is_training,
    map_array,
    memory,
    op_schemas,
    ops_with_kernels,
    plan_report,
    promote_types,
    random_state,
    release_cached_memory,
    reset_peak_memory,
    set_num_threads,
    set_random_state,
    set_recording,
    set_seed,
    set_training,
    trace,
)

__all__ = [
    "Array",
    "CompiledFunction",
    "DependencyEngine",
    "Graph",
    "PlanProfile",
    "RowGather",
    "RowOrder",
    "RowSource",
    "SuspendTrace",
    "Traced",
    "Variable",
    "Vocabulary",
    "array",
    "assign",
    "backward",
    "data_copy_count",
    "get_num_threads",
    "grad",
    "invoke",
    "is_recording",
    "is_tracing",
    "is_training",
    "map_array",
    "memory",
    "op_schemas",
    "ops_with_kernels",
    "plan_report",
    "promote_types",
    "random_state",
    "release_cached_memory",
    "reset_peak_memory",
    "set_num_threads",
    "set_random_state",
    "set_recording",
    "set_seed",
    "set_training",
    "trace",
]

# Arrays have their methods from there: whoever comes by one, through whatever part, must find them.
importlib.import_module("mxpipe.np")
