"""Search for hyper-parameters: which values of a specification train the better model.

Enters: a :class:`~mxpipe.train.TrainSpec`, a space over its fields, a metric. Leaves: a study, a directory of
JSON that says what was tried and what came of it, and its best trial's model. Called by programs (`tune` runs
a whole search on this machine) and by orchestrators, which run the trials themselves: `Study.suggest`,
`Study.trial_spec`, a launcher named "trial" that prunes, `Study.settle`.
"""

from __future__ import annotations

from mxpipe.tune.launcher import TrialLauncher
from mxpipe.tune.report import write_report
from mxpipe.tune.search import tune
from mxpipe.tune.space import SearchSpace, choices, integers, log_uniform, uniform
from mxpipe.tune.study import Study, Trial, TrialState

__all__ = [
    "SearchSpace",
    "Study",
    "Trial",
    "TrialLauncher",
    "TrialState",
    "choices",
    "integers",
    "log_uniform",
    "tune",
    "uniform",
    "write_report",
]
