"""What a specification becomes in memory: data, net, optimizer and compiled step, with their exact state."""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

import mxpipe as mx
from mxpipe.data import Batch, FeatureSpec, Loader, Preprocessor, Snapshot, StatisticsAccumulator
from mxpipe.data.drift import DRIFT_CATEGORIES
from mxpipe.errors import DataError, MxpipeError, SpecificationError
from mxpipe.model import save_model
from mxpipe.model.format import Activation, default_output_names
from mxpipe.train.imports import import_callable
from mxpipe.train.spec import Named, TrainSpec
from mxpipe.train.warm_start import warm_start

Builders = Collection[str] | Mapping[str, Callable[..., Any]]

_VALIDATION_BATCH = 4096
_PREDICTED_BATCHES = 4  # of training rows, to know how predictions are distributed
_PARAMETER, _OPTIMIZER = "parameter/", "optimizer/"


class Session:
    """A training in memory. Two sessions of one specification are in the same state, to the bit."""

    def __init__(self, spec: TrainSpec, builders: Builders = ()) -> None:
        """Open the data and build everything.

        Raises:
            SpecificationError: A name is unknown, or arguments do not fit.
            DataError: A snapshot is damaged or lacks a column.
        """
        self._spec = spec
        self.snapshot = Snapshot.open(spec.data.train)
        self.preprocessor = _fit_preprocessor(spec, self.snapshot)
        self._loader = self._make_loader(self.snapshot, spec.data.batch_size, shuffle=True)
        self.steps_per_epoch = len(self._loader)
        self.total_steps = spec.steps or self.steps_per_epoch * (spec.epochs or 1)
        mx.random.seed(spec.seed)
        self.net = build_net(spec, self.preprocessor, builders)
        self._finish_initialization()
        for name in spec.metrics:
            make_metric(name)  # an unknown name fails now, not after the first epoch
        self._loss = make_loss(spec.loss)
        self.activation = _activation_of(self._loss)
        if spec.warm_start is not None:
            warm_start(self.net, self.preprocessor, spec.warm_start)
        self._trainer = self._make_trainer()
        self._step = mx.gluon.TrainStep(self.net, self._loss, self._trainer, spec.precision)
        self.net.hybridize()
        self._validation = self._make_validation()

    def _make_loader(self, snapshot: Snapshot, batch_size: int, shuffle: bool) -> Loader:
        return Loader(
            snapshot,
            self.preprocessor,
            label=self._spec.data.label_column,
            batch_size=batch_size,
            seed=self._spec.seed,
            shuffle=shuffle,
            # A step of another size would be another plan; but rows that do not fill one batch are not lost.
            drop_last=shuffle and snapshot.num_rows >= batch_size,
        )

    def _make_trainer(self) -> Any:
        arguments = dict(self._spec.optimizer.arguments)
        if self._spec.schedule is not None:
            arguments["lr_scheduler"] = make_schedule(self._spec.schedule, self.total_steps)
        with specification_errors("optimizer"):
            return mx.gluon.Trainer(self.net.collect_params(), self._spec.optimizer.name, arguments)

    def _make_validation(self) -> Loader | None:
        if self._spec.data.validation is None:
            return None
        return self._make_loader(Snapshot.open(self._spec.data.validation), _VALIDATION_BATCH, shuffle=False)

    def _finish_initialization(self) -> None:
        numeric = mx.np.zeros((2, self.preprocessor.numeric_width), dtype="float32")
        categorical = mx.np.zeros((2, len(self.preprocessor.categorical)), dtype="int32")
        self.net.finish_deferred(numeric, categorical)

    @property
    def learning_rate(self) -> float:
        """The rate of the latest step."""
        return float(self._trainer.learning_rate)

    def rest_of_epoch(self) -> Iterator[Batch]:
        """Batches from where the loader is to the end of its epoch."""
        return iter(self._loader)

    def train_step(self, batch: Batch) -> float:
        """Train on one batch; returns the mean loss of its rows."""
        loss = self._step(*batch)
        return float(np.mean(loss.asnumpy(), dtype=np.float64))

    def validate(self) -> dict[str, float]:
        """Loss and metrics over the validation snapshot, in predict mode; empty without one."""
        if self._validation is None:
            return {}
        metrics = [make_metric(name) for name in self._spec.metrics]
        total = 0.0
        rows = 0
        for batch in self._validation:
            output = self.net(batch.numeric, batch.categorical)
            total += float(np.sum(self._loss(output, batch.label).asnumpy(), dtype=np.float64))
            rows += len(batch.label)
            for metric in metrics:
                metric.update([batch.label], [self._activated(output)])
        values = {
            name: float(metric.get()[1]) for name, metric in zip(self._spec.metrics, metrics, strict=True)
        }
        return {"loss": total / rows} | values

    def _activated(self, output: Any) -> Any:
        if self.activation == "sigmoid":
            return mx.npx.sigmoid(output).reshape((-1,))
        return mx.npx.softmax(output, axis=-1) if self.activation == "softmax" else output

    def parameters(self) -> dict[str, npt.NDArray[Any]]:
        """Copies of all parameters by name."""
        return {name: item.data().asnumpy() for name, item in self.net.collect_params().items()}

    def load_parameters(self, values: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write parameters that :meth:`parameters` returned."""
        self.net.load_dict(values)

    def capture(self) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
        """Copies of all arrays by name, and the rest of the state as JSON values."""
        tensors = {_PARAMETER + name: values for name, values in self.parameters().items()}
        arrays, description = self._trainer.get_states()
        tensors |= {_OPTIMIZER + name: array.asnumpy() for name, array in arrays.items()}
        return tensors, {
            "snapshot": self.snapshot.digest,
            "trainer": description,
            "random": mx.random.get_state(),
            "loader": self._loader.state(),
        }

    def restore(self, tensors: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        """Go to the state that another session captured.

        Raises:
            DataError: The snapshot is not the one that the state belongs to.
        """
        if state["snapshot"] != self.snapshot.digest:
            raise DataError(
                f"[training] {self.snapshot.uri} must hold the snapshot of the checkpoint, digest"
                f" {state['snapshot'][:12]}; got {self.snapshot.digest[:12]}."
            )
        self.load_parameters(_with_prefix(tensors, _PARAMETER))
        self._trainer.set_states(_with_prefix(tensors, _OPTIMIZER), state["trainer"])
        self._loader.restore(state["loader"])
        mx.random.set_state(state["random"])

    def save(self, path: Path, metadata: Mapping[str, Any], before_publish: Callable[[], None]) -> None:
        """Publish the model folder."""
        data = {"train_snapshot_digest": self.snapshot.digest, "train_rows": self.snapshot.num_rows}
        data |= self._training_statistics()
        save_model(
            path,
            self.net,
            self.preprocessor,
            metadata=dict(metadata) | data,
            activation=self.activation,
            before_publish=before_publish,
        )

    def _training_statistics(self) -> dict[str, Any]:
        """What monitoring compares with: the columns of all rows, and predictions for some, always the same.

        It stands in the model, so that a served version can be compared wherever it is, and long after its
        snapshot is gone.
        """
        loader = self._make_loader(self.snapshot, _VALIDATION_BATCH, shuffle=True)
        outputs = [
            self._activated(self.net(batch.numeric, batch.categorical)).asnumpy()
            for batch in islice(loader, _PREDICTED_BATCHES)
        ]
        predictions = np.concatenate([output.reshape(len(output), -1) for output in outputs])
        names = default_output_names(predictions.shape[1], self.activation)
        counted = StatisticsAccumulator([{"name": name, "type": "float32"} for name in names])
        counted.update_columns(dict(zip(names, predictions.T, strict=True)), len(predictions))
        columns = list(self.preprocessor.column_types)
        return {
            "train_statistics": self.snapshot.statistics.summary(columns, DRIFT_CATEGORIES).to_json(),
            "train_predictions": counted.finish().to_json(),
        }


def build_net(spec: TrainSpec, preprocessor: Preprocessor, builders: Builders) -> Any:
    """Build and initialize the net of a specification.

    Raises:
        SpecificationError: The builder is unknown or was not allowed, or its arguments do not fit.
    """
    name = spec.model.builder
    learned = {"num_numeric": preprocessor.numeric_width, "cardinalities": preprocessor.cardinalities}
    with specification_errors("model"):
        if ":" in name:
            net = _allowed_builder(name, builders)(**learned, **spec.model.arguments)
        else:
            net = mx.gluon.model_zoo.get_model(name, **learned, **spec.model.arguments)
        net.initialize()
    return net


def _allowed_builder(name: str, builders: Builders) -> Callable[..., Any]:
    if name not in builders:
        raise SpecificationError(
            f"[spec] the builder {name!r} must be allowed by the code that starts the training (builders=, or"
            f" --builder); got {sorted(builders)}."
        )
    return builders[name] if isinstance(builders, Mapping) else import_callable(name)


def make_schedule(named: Named, total_steps: int) -> Any:
    """Make a learning-rate schedule; one that ends does so with the training, unless it says otherwise."""
    kind = _find("schedule", mx.lr_scheduler, named.name, suffix="Scheduler")
    ends = "max_update" in inspect.signature(kind).parameters
    with specification_errors("schedule"):
        return kind(**(({"max_update": total_steps} if ends else {}) | named.arguments))


def make_metric(name: str) -> Any:
    """Make a metric by its name, such as "auc" or "accuracy"."""
    return _find("metric", mx.gluon.metric, name, suffix="")()


def make_loss(named: Named) -> Any:
    """Make a loss by its name, such as "sigmoid_binary_cross_entropy"."""
    with specification_errors("loss"):
        return _find("loss", mx.gluon.loss, named.name, suffix="Loss")(**named.arguments)


def _find(what: str, module: ModuleType, name: str, suffix: str) -> Callable[..., Any]:
    """A public class of a module, by its name in any spelling: "l2", "L2Loss" and "l2_loss" are one."""
    known = {_normal(public.removesuffix(suffix)): public for public in module.__all__ if public[0].isupper()}
    found = known.get(_normal(name).removesuffix(_normal(suffix)) if suffix else _normal(name))
    if found is None:
        raise SpecificationError(f"[spec] {what} must be one of {sorted(known.values())}; got {name!r}.")
    result: Callable[..., Any] = getattr(module, found)
    return result


def _normal(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


@contextlib.contextmanager
def specification_errors(what: str) -> Iterator[None]:
    """Turn arguments that a constructor does not take into an error of the specification."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if isinstance(error, MxpipeError):
            raise
        raise SpecificationError(f"[spec] the arguments of {what} must fit it; got {error}.") from error


def _fit_preprocessor(spec: TrainSpec, snapshot: Snapshot) -> Preprocessor:
    features = FeatureSpec.from_json(spec.data.features)
    with specification_errors("data.preprocessing"):
        return Preprocessor.fit(snapshot, features, **spec.data.preprocessing)


def _activation_of(loss: Any) -> Activation:
    """What makes probabilities of the logits that a loss takes."""
    name = type(loss).__name__
    if name.startswith("SigmoidB") or name == "LogisticLoss":
        return "sigmoid"
    return "softmax" if name.startswith("Softmax") else "identity"


def _with_prefix(tensors: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
