"""Optuna's samplers and pruners as pure functions of a study's trials.

Each call makes a study in memory, tells it what is known, and asks one question; nothing of Optuna is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mxpipe.errors import SpecificationError, require
from mxpipe.tune.space import Parameters, SearchSpace

if TYPE_CHECKING:
    from mxpipe.tune.study import Trial

SAMPLERS = ("random", "tpe")
_PRUNERS = {"median": "MedianPruner", "halving": "SuccessiveHalvingPruner"}


def check(definition: Mapping[str, Any]) -> None:
    """Check sampler and pruner of a study.

    Raises:
        SpecificationError: A name or argument is unknown.
        MissingExtraError: Optuna is not installed.
    """
    name = definition["sampler"]["name"]
    if name not in SAMPLERS:
        raise SpecificationError(f"[study] sampler must be one of {SAMPLERS}; got {name!r}.")
    _sampler(definition, 0)
    _pruner(definition)


def suggest(
    definition: Mapping[str, Any], space: SearchSpace, trials: Sequence[Trial], number: int
) -> Parameters:
    """The parameters of a new trial.

    Args:
        definition: The study's.
        space: Its space.
        trials: Those before it: finished ones in the order in which they finished; those at work count as
            bad, so that trials that run at once do not all try the same.
        number: The new trial's number.
    """
    optuna = _optuna()
    study = optuna.create_study(sampler=_sampler(definition, number), direction=definition["direction"])
    distributions = space.distributions()
    if definition["sampler"]["name"] != "random":  # for which each trial stands alone
        for trial in trials:
            study.add_trial(_frozen(optuna, space, distributions, trial))
    return space.drawn(study.ask(distributions).params)


def pruning_epoch(
    definition: Mapping[str, Any], told: Sequence[Trial], values: Mapping[int, float]
) -> int | None:
    """The first epoch after which a trial is to be given up, or None.

    Args:
        definition: The study's.
        told: Trials whose result is known, in the order in which it became so.
        values: The trial's metric by epoch.
    """
    optuna = _optuna()
    study = optuna.create_study(pruner=_pruner(definition), direction=definition["direction"])
    states = optuna.trial.TrialState
    for trial in told:
        replayed = study.ask()
        for epoch in sorted(trial.values):
            replayed.report(trial.values[epoch], epoch)
            replayed.should_prune()  # a pruner may note which rung it has reached
        if trial.state == "COMPLETE":
            study.tell(replayed, trial.value)
        else:
            study.tell(replayed, state=states.PRUNED if trial.state == "PRUNED" else states.FAIL)
    asked = study.ask()
    for epoch in sorted(values):
        asked.report(values[epoch], epoch)
        if asked.should_prune():
            return epoch
    return None


def _optuna() -> Any:
    optuna = require("optuna", extra="tune")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _sampler(definition: Mapping[str, Any], number: int) -> Any:
    samplers = require("optuna.samplers", extra="tune")
    # Each trial has its own stream of random numbers: a retry draws what the first attempt drew.
    text = f"{definition['seed']}/{number}"
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
    if definition["sampler"]["name"] == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.TPESampler(seed=seed, n_startup_trials=definition["sampler"]["startup"])


def _pruner(definition: Mapping[str, Any]) -> Any:
    pruners = require("optuna.pruners", extra="tune")
    wanted = definition["pruner"]
    if wanted is None:
        return pruners.NopPruner()
    arguments = {name: value for name, value in wanted.items() if name != "name"}
    if wanted.get("name") not in _PRUNERS:
        raise SpecificationError(
            f"[study] pruner must be one of {sorted(_PRUNERS)}; got {wanted.get('name')!r}."
        )
    try:
        return getattr(pruners, _PRUNERS[wanted["name"]])(**arguments)
    except (TypeError, ValueError) as error:
        raise SpecificationError(f"[study] the pruner's arguments must fit it; got {error}.") from error


def _frozen(optuna: Any, space: SearchSpace, distributions: Mapping[str, Any], trial: Trial) -> Any:
    states = {
        "PENDING": optuna.trial.TrialState.RUNNING,
        "COMPLETE": optuna.trial.TrialState.COMPLETE,
        "PRUNED": optuna.trial.TrialState.PRUNED,
        "FAILED": optuna.trial.TrialState.FAIL,
    }
    return optuna.trial.create_trial(
        state=states[trial.state],
        value=trial.value if trial.state == "COMPLETE" else None,
        params=space.undrawn(trial.parameters),
        distributions=dict(distributions),
        intermediate_values=trial.values,
    )
