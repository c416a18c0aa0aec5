"""A search on disk: what is searched, what was suggested, and what came of it.

::

    study.json      the specification, the space, sampler, pruner, metric and seed; written once
    trials.jsonl    suggestions and results, one a line, only ever appended to and flushed to the disk
    study.lock      held while a line is thought out and appended

A suggestion is written down before anyone sees it, so a trial's parameters are the same on every retry. They
are a function of the seed, the trial's number and the trials that stood before it in the file; with the
random sampler, of seed and number alone. Nothing here can run code: it is JSON.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mxpipe.errors import JobNotFoundError, SpecificationError
from mxpipe.model.storage import canonical_digest, lock_file, write_json
from mxpipe.train.events import EventWriter, read_events, read_history
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.spec import TrainSpec
from mxpipe.train.status import JobState, JobStatus
from mxpipe.tune import sampling
from mxpipe.tune.space import Parameters, SearchSpace

FORMAT, VERSION = "mxpipe.study", 1


class TrialState(StrEnum):
    """Where a trial stands."""

    PENDING = "PENDING"  # suggested; its training may be at work, or over and not told
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"  # given up: others were better at the same epoch
    FAILED = "FAILED"  # with these parameters it cannot be trained


@dataclass
class Trial:
    """One set of parameters and what came of it.

    Attributes:
        number: 0, 1, ...
        parameters: Value by path.
        state: See :class:`TrialState`.
        value: The metric at its end; of a pruned trial, at the epoch at which it was given up.
        values: The metric by epoch.
        pruned_at: The epoch after which it was to be given up, from the moment on that this was decided.
        error: Of a failure, its type and message.
        job_id: The job that trained it.
        model_uri: The model folder of a complete trial.
    """

    number: int
    parameters: Parameters
    state: TrialState = TrialState.PENDING
    value: float | None = None
    values: dict[int, float] = field(default_factory=dict)
    pruned_at: int | None = None
    error: str | None = None
    job_id: str | None = None
    model_uri: str | None = None


class Study:
    """A search in a directory; any number of processes may ask it and tell it.

    Example:
        >>> import tempfile
        >>> from mxpipe.tune import log_uniform
        >>> spec = TrainSpec({"builder": "mlp"}, {"train": "t", "features": {"label": "y"}}, epochs=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     space = {"optimizer.learning_rate": log_uniform(1e-4, 1e-1)}
        ...     study = Study.create(folder, spec, space, metric="train_loss", sampler="random", seed=7)
        ...     trial = study.suggest(0)
        ...     same = Study.open(folder).suggest(0).parameters == trial.parameters
        ...     study.trial_spec(0).optimizer.arguments == {"learning_rate": trial.parameters[
        ...         "optimizer.learning_rate"]}, same
        (True, True)
    """

    def __init__(self, directory: Path, definition: Mapping[str, Any]) -> None:
        """Take what :meth:`open` has read."""
        self.directory = directory
        self.definition = dict(definition)
        self.spec = TrainSpec.from_json(definition["spec"])
        self.space = SearchSpace(definition["space"])
        self.metric: str = definition["metric"]
        self.direction: str = definition["direction"]
        self.digest = canonical_digest(self.definition)
        self._journal = directory / "trials.jsonl"

    @classmethod
    def create(
        cls,
        directory: str | os.PathLike[str],
        spec: TrainSpec,
        space: Mapping[str, Mapping[str, Any]],
        *,
        metric: str = "validation_loss",
        direction: str = "minimize",
        sampler: str = "tpe",
        seed: int = 0,
        startup: int = 10,
        pruner: str | Mapping[str, Any] | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> Study:
        """Begin a search, or open the same one again.

        Args:
            directory: Its directory.
            spec: The training; a trial replaces some of its values.
            space: Dimensions by path, see :mod:`mxpipe.tune.space`.
            metric: "train_loss", or "validation_loss" and "validation_NAME" of the specification's metrics.
            direction: "minimize" or "maximize".
            sampler: "random", or "tpe" (tree-structured Parzen estimator).
            seed: All suggestions follow from it.
            startup: Trials that "tpe" draws at random first.
            pruner: "median" or "halving", or a dictionary with `name` and arguments of Optuna's MedianPruner
                or SuccessiveHalvingPruner; null trains every trial to its end.
            notes: JSON values to keep with it.

        Raises:
            SpecificationError: Something does not fit, or another search is in the directory.
        """
        folder = Path(directory).absolute()
        _check_metric(spec, metric)
        if direction not in ("minimize", "maximize"):
            raise SpecificationError(f"[study] direction must be minimize or maximize; got {direction!r}.")
        searched = SearchSpace(space)
        searched.check(spec)
        definition = {
            "format": FORMAT,
            "version": VERSION,
            "spec": spec.to_json(),
            "space": searched.to_json(),
            "metric": metric,
            "direction": direction,
            "sampler": {"name": sampler, "startup": startup},
            "seed": seed,
            "pruner": {"name": pruner} if isinstance(pruner, str) else pruner and dict(pruner),
            "notes": dict(notes or {}),
        }
        sampling.check(definition)
        study = cls(folder, json.loads(json.dumps(definition, allow_nan=False)))
        with study._locked():
            if (folder / "study.json").exists():
                known = cls.open(folder)
                if known.digest != study.digest:
                    mine, theirs = study.definition, known.definition
                    different = [name for name in mine if mine[name] != theirs.get(name)]
                    raise SpecificationError(
                        f"[{folder}] the directory must hold the same search; got another {different}."
                    )
            else:
                write_json(folder / "study.json", study.definition)
        return study

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> Study:
        """Open a search.

        Raises:
            JobNotFoundError: There is none in the directory.
            SpecificationError: Its file cannot be understood.
        """
        path = Path(directory).absolute() / "study.json"
        try:
            definition = json.loads(path.read_bytes())
            if (definition["format"], definition["version"]) != (FORMAT, VERSION):
                raise SpecificationError(f"[{path}] the file must be a study of version {VERSION}.")
            return cls(path.parent, definition)
        except FileNotFoundError:
            raise JobNotFoundError(f"[{path}] a study must be there; got no such file.") from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, SpecificationError):
                raise
            raise SpecificationError(f"[{path}] the file must describe a study; got {error!r}.") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        descriptor = lock_file(self.directory / "study.lock")
        assert descriptor is not None
        try:
            yield
        finally:
            os.close(descriptor)

    def _append(self, event: str, **fields: Any) -> None:
        with EventWriter(self._journal) as journal:
            journal.write(event, **fields)
            journal.flush()

    def trials(self) -> list[Trial]:
        """All trials that were suggested, in the order in which they were."""
        return list(self._read().values())

    def _read(self) -> dict[int, Trial]:
        trials: dict[int, Trial] = {}
        for event in read_events(self._journal):
            number = event["trial"]
            if event["event"] == "suggested":
                trials.setdefault(number, Trial(number, event["parameters"]))
            elif event["event"] == "pruning":
                trials[number].pruned_at = event["epoch"]
            elif event["event"] == "told":
                trial = trials.pop(number)  # finished trials stand in the order in which they finished
                trials[number] = trial
                trial.state, trial.value = TrialState(event["state"]), event["value"]
                trial.values = {int(epoch): value for epoch, value in event["values"].items()}
                trial.error, trial.job_id = event["error"], event["job_id"]
                trial.model_uri = event["model_uri"]
        return trials

    def suggest(self, number: int) -> Trial:
        """The trial of a number; its parameters are thought out the first time that anyone asks.

        Trials may be asked for in any order and at once. With "tpe", what is asked for later knows more.

        Raises:
            MissingExtraError: Optuna is not installed.
            StorageError: The disk is full; nothing was suggested.
        """
        if number < 0:
            raise SpecificationError(f"[study] a trial's number must be at least 0; got {number}.")
        with self._locked():
            trials = self._read()
            if number not in trials:
                parameters = sampling.suggest(self.definition, self.space, list(trials.values()), number)
                trials[number] = Trial(number, parameters)
                self._append("suggested", trial=number, parameters=parameters)
        return trials[number]

    def trial_spec(self, number: int) -> TrainSpec:
        """What the trial of a number trains."""
        changed = self.space.changed(self.spec.to_json(), self.suggest(number).parameters)
        return TrainSpec.from_json(changed)

    def key(self, number: int) -> str:
        """Idempotency key of a trial's job."""
        return f"trial-{number:04d}/{self.digest}"

    def observe(self, number: int, run: RunDirectory) -> bool:
        """Look at a trial's epochs so far; whether it is to be given up.

        The pruner is asked about each epoch in turn, against the trials that have ended, so the answer does
        not depend on how often one looks. A yes is on the disk before it is returned: whoever asks next gets
        the same one.

        Raises:
            MissingExtraError: Optuna is not installed.
        """
        if self.definition["pruner"] is None:
            return False
        last = self.trial_spec(number).epochs  # nothing is won by giving up after it
        values = {epoch: value for epoch, value in self._values(run).items() if last is None or epoch < last}
        with self._locked():
            trials = self._read()
            trial = trials[number]
            if trial.pruned_at is not None or trial.state is not TrialState.PENDING:
                return trial.pruned_at is not None
            told = [other for other in trials.values() if other.state is not TrialState.PENDING]
            epoch = sampling.pruning_epoch(self.definition, told, values)
            if epoch is None:
                return False
            self._append("pruning", trial=number, epoch=epoch, value=values[epoch])
            return True

    def _values(self, run: RunDirectory) -> dict[int, float]:
        history = read_history(run.events_path, "epoch")
        found = {entry["epoch"]: entry["metrics"].get(self.metric) for entry in history}
        return {epoch: value for epoch, value in found.items() if value is not None and math.isfinite(value)}

    def settle(self, number: int, status: JobStatus, run: RunDirectory) -> Trial:
        """Note what came of a trial's job; what was noted once stays.

        Args:
            number: The trial.
            status: The job's last status.
            run: Its files.

        Returns:
            The trial; still PENDING when its job has not come to an end of its own.
        """
        is_pruned = self.observe(number, run)
        values = self._values(run)
        trial = self.suggest(number)
        if is_pruned and trial.pruned_at is not None:
            values = {epoch: value for epoch, value in values.items() if epoch <= trial.pruned_at}
            value = values.get(trial.pruned_at)
            return self.tell(number, TrialState.PRUNED, value, values=values, job_id=run.path.name)
        if status.state is JobState.SUCCEEDED:
            value = status.metrics.get(self.metric)
            if value is None or not math.isfinite(value):
                error = f"{self.metric} must be a finite number; got {value}"
                return self.tell(number, TrialState.FAILED, error=error, job_id=run.path.name)
            return self.tell(
                number,
                TrialState.COMPLETE,
                value,
                values=values,
                job_id=run.path.name,
                model_uri=str(run.model_path),
            )
        if status.state is JobState.FAILED and status.error is not None and not status.error["retryable"]:
            error = f"{status.error['type']}: {status.error['message']}"
            return self.tell(number, TrialState.FAILED, values=values, error=error, job_id=run.path.name)
        return trial

    def tell(
        self,
        number: int,
        state: TrialState,
        value: float | None = None,
        *,
        values: Mapping[int, float] | None = None,
        error: str | None = None,
        job_id: str | None = None,
        model_uri: str | None = None,
    ) -> Trial:
        """Note a trial's result; of a trial whose result is known, the known one is returned.

        Raises:
            SpecificationError: The trial was never suggested, or a complete one has no finite value.
        """
        if state is TrialState.COMPLETE and (value is None or not math.isfinite(value)):
            raise SpecificationError(f"[study] a complete trial must have a finite value; got {value!r}.")
        with self._locked():
            trials = self._read()
            if number not in trials:
                raise SpecificationError(f"[study] trial {number} must have been suggested; it was not.")
            if trials[number].state is TrialState.PENDING:
                plain = {str(epoch): item for epoch, item in (values or {}).items()}
                self._append(
                    "told",
                    trial=number,
                    state=state.value,
                    value=value,
                    values=plain,
                    error=error,
                    job_id=job_id,
                    model_uri=model_uri,
                )
            return self._read()[number]

    def best(self) -> Trial | None:
        """The complete trial with the best value; of equals the one with the lowest number."""
        complete = [trial for trial in self.trials() if trial.state is TrialState.COMPLETE]
        return min(complete, key=lambda trial: (self.cost(trial), trial.number), default=None)

    def cost(self, trial: Trial) -> float:
        """The trial's value, the sign turned where more is better."""
        assert trial.value is not None
        return trial.value if self.direction == "minimize" else -trial.value


def _check_metric(spec: TrainSpec, metric: str) -> None:
    known = ["train_loss"]
    if spec.data.validation is not None:
        known += [f"validation_{name}" for name in ("loss", *spec.metrics)]
    if metric not in known:
        raise SpecificationError(f"[study] metric must be one of {known}; got {metric!r}.")
