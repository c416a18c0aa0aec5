"""The training loop: steps, epochs, checkpoints, the best epoch, and going on as if nothing had happened.

All that the loop knows is in :class:`Counters`, the best epoch and the session; a checkpoint holds these
three. What a step does follows from them alone, so a run that goes on from a checkpoint does exactly what the
first one did.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mxpipe.data import Batch
from mxpipe.errors import SpecificationError
from mxpipe.model.storage import remove_partial
from mxpipe.train.checkpoint import Checkpoint, CheckpointWriter, newest_checkpoint, remove_checkpoints
from mxpipe.train.early_stopping import BestEpoch
from mxpipe.train.faults import fault_point
from mxpipe.train.reporting import Reporter
from mxpipe.train.run_directory import RunDirectory
from mxpipe.train.session import Session
from mxpipe.train.spec import TrainSpec
from mxpipe.train.stopping import StopRequest

_BEST = "best/"  # prefix of the best epoch's parameters among the tensors of a checkpoint


@dataclass
class Counters:
    """Where the training stands. Sums are float64 and added in the order of the steps.

    Attributes:
        step: Optimizer steps done.
        epoch: Epochs done.
        line_loss: Sum of the losses since the last line of the loss curve.
        line_steps: Steps in that sum.
        epoch_loss: Sum of the losses of this epoch.
        epoch_steps: Steps in that sum.
        is_finished: Whether there is nothing left to train.
    """

    step: int = 0
    epoch: int = 0
    line_loss: float = 0.0
    line_steps: int = 0
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    is_finished: bool = False

    def add(self, loss: float) -> None:
        """Count one step."""
        self.step += 1
        self.line_loss += loss
        self.line_steps += 1
        self.epoch_loss += loss
        self.epoch_steps += 1


class TrainingLoop:
    """One training in one run directory, from the newest valid checkpoint on."""

    def __init__(self, spec: TrainSpec, session: Session, run: RunDirectory) -> None:
        """Take up the newest valid checkpoint, if there is one."""
        self._spec, self._session, self._run = spec, session, run
        self._counters = Counters()
        self._best = BestEpoch(spec.early_stopping) if spec.early_stopping else None
        self._best_parameters: dict[str, npt.NDArray[Any]] = {}
        self._last_checkpoint = time.monotonic()
        self._checkpoint_step = 0
        self.metrics: dict[str, float] = {}
        remove_partial(run.checkpoints_path)
        checkpoint = newest_checkpoint(run.checkpoints_path)
        if checkpoint is not None:
            self._restore(checkpoint)

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self._counters.step

    @property
    def final_metrics(self) -> dict[str, float]:
        """Metrics of what is published: of the best epoch if the specification asks for it."""
        return self._best.metrics if self._best is not None and self._best.metrics else self.metrics

    def run(self, reporter: Reporter, stop: StopRequest) -> bool:
        """Train to the end, or until someone asks to stop.

        Returns:
            Whether training is finished; otherwise a checkpoint of this very step is on the disk.

        Raises:
            StorageError: A checkpoint could not be written.
        """
        policy = self._spec.checkpoint
        with CheckpointWriter(self._run.checkpoints_path, policy.keep, reporter.checkpoint) as writer:
            while not self._counters.is_finished:
                for batch in self._session.rest_of_epoch():
                    self._train_on(batch, reporter)
                    if stop.is_requested:
                        self._write_checkpoint(writer)
                        writer.wait()
                        return False
                    if self._counters.is_finished:
                        break
                    if self._is_checkpoint_due(writer):
                        self._write_checkpoint(writer)
            writer.wait()
        return True

    def _train_on(self, batch: Batch, reporter: Reporter) -> None:
        counters, session = self._counters, self._session
        loss = session.train_step(batch)
        counters.add(loss)
        if not np.isfinite(loss):
            raise SpecificationError(
                f"[training] the loss must stay finite; got {loss} at step {counters.step}. A lower learning"
                " rate may help."
            )
        reporter.step(counters.step, counters.epoch, len(batch.label))
        if reporter.is_line_step(counters.step):
            reporter.line(counters.step, counters.line_loss / counters.line_steps, session.learning_rate)
            counters.line_loss, counters.line_steps = 0.0, 0
        if counters.step % session.steps_per_epoch == 0 or counters.step == session.total_steps:
            self._end_epoch(reporter)
        fault_point("step")

    def _end_epoch(self, reporter: Reporter) -> None:
        counters = self._counters
        counters.epoch += 1
        self.metrics = {"train_loss": counters.epoch_loss / counters.epoch_steps}
        counters.epoch_loss, counters.epoch_steps = 0.0, 0
        self.metrics |= {f"validation_{name}": value for name, value in self._session.validate().items()}
        reporter.epoch(counters.epoch, counters.step, self.metrics)
        counters.is_finished = counters.step >= self._session.total_steps
        if self._best is not None:
            if self._best.update(counters.epoch, self.metrics):
                self._best_parameters = self._session.parameters()
            counters.is_finished |= self._best.should_stop(counters.epoch)

    def _is_checkpoint_due(self, writer: CheckpointWriter) -> bool:
        policy, step = self._spec.checkpoint, self._counters.step
        if policy.every_steps is not None and step - self._checkpoint_step >= policy.every_steps:
            return True
        if policy.every_seconds is None or writer.is_busy:
            return False
        return time.monotonic() - self._last_checkpoint >= policy.every_seconds

    def _write_checkpoint(self, writer: CheckpointWriter) -> None:
        tensors, session_state = self._session.capture()
        tensors |= {_BEST + name: array for name, array in self._best_parameters.items()}
        state = {
            "counters": asdict(self._counters),
            "session": session_state,
            "metrics": self.metrics,
            "best": None if self._best is None else self._best.to_json(),
        }
        writer.write(Checkpoint(self._counters.step, tensors, state))
        self._last_checkpoint, self._checkpoint_step = time.monotonic(), self._counters.step

    def _restore(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state
        tensors = {name: array for name, array in checkpoint.tensors.items() if not name.startswith(_BEST)}
        self._session.restore(tensors, state["session"])
        self._counters = Counters(**state["counters"])
        self._checkpoint_step = checkpoint.step
        self.metrics = dict(state["metrics"])
        if self._best is not None and state["best"] is not None:
            self._best.restore(state["best"])
            self._best_parameters = {
                name.removeprefix(_BEST): np.array(array)
                for name, array in checkpoint.tensors.items()
                if name.startswith(_BEST)
            }

    def publish(self) -> Path:
        """Write the model folder, of the best epoch when the specification asks for it.

        Raises:
            StorageError: The disk is full; nothing of the model remains, and the checkpoints do.
        """
        if self._best_parameters:
            self._session.load_parameters(self._best_parameters)
        fault_point("model.before_write")
        self._session.save(self._run.model_path, self._metadata(), lambda: fault_point("model.before_rename"))
        fault_point("model.after_rename")
        return self._run.model_path

    def _metadata(self) -> Mapping[str, Any]:
        best = {} if self._best is None else {"best_epoch": self._best.epoch}
        return {
            "steps": self._counters.step,
            "epochs": self._counters.epoch,
            "metrics": self.final_metrics,
            "specification_digest": self._spec.digest(),
        } | best

    def discard_checkpoints(self) -> None:
        """Remove the checkpoints: the model is published, and nothing will go on from them."""
        remove_checkpoints(self._run.checkpoints_path)
