"""What to train, as data: a :class:`TrainSpec` goes into a job as JSON and its digest names the training.

Nothing here touches the engine or reads data, so that a scheduler can build and check a specification
cheaply. Unknown keys, wrong types and values out of range raise :class:`~mxpipe.errors.SpecificationError`
with the path of the field, at the moment the specification is made.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mxpipe.errors import SpecificationError
from mxpipe.model.storage import canonical_digest
from mxpipe.redaction import holds_credentials, redact

Json = dict[str, Any]


def _require(condition: bool, path: str, must: str, got: object) -> None:
    if not condition:
        raise SpecificationError(f"[spec] {path} must {must}; got {got!r}.")


def _positive(value: float | None, path: str) -> None:
    if value is not None:
        _require(value > 0 and math.isfinite(value), path, "be a positive number", value)


@dataclass(frozen=True)
class Section:
    """A part of the specification that is made from JSON and turned back into it."""

    def __post_init__(self) -> None:
        self._check(type(self).__name__)

    def _check(self, path: str) -> None:
        """Raise SpecificationError when a value is out of range."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | Self, path: str = "spec") -> Self:
        """Make a section from parsed JSON, naming the field that does not fit.

        Raises:
            SpecificationError: An unknown or missing key, a wrong type, or a value out of range.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise SpecificationError(f"[spec] {path} must be an object; got {value!r}.")
        known = {item.name: item for item in dataclasses.fields(cls)}
        for name in value:
            _require(name in known, f"{path}.{name}", f"be a known field, one of {sorted(known)}", name)
        for name, item in known.items():
            required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
            _require(name in value or not required, f"{path}.{name}", "be given", None)
        hints = typing.get_type_hints(cls)
        return cls(**{name: _coerce(hints[name], item, f"{path}.{name}") for name, item in value.items()})

    def to_json(self) -> Json:
        """The section as JSON values."""
        return {item.name: _plain(getattr(self, item.name)) for item in dataclasses.fields(self)}

    def without_defaults(self) -> Json:
        """The section as JSON values, without the fields that have their default value."""
        given: Json = {}
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            default = item.default if item.default_factory is dataclasses.MISSING else item.default_factory()
            if value != default:
                given[item.name] = value.without_defaults() if isinstance(value, Section) else _plain(value)
        return given


@dataclass(frozen=True)
class Named(Section):
    """Something chosen by name, with its arguments: a loss, an optimizer, a schedule."""

    name: str
    arguments: Json = field(default_factory=dict)

    def _check(self, path: str) -> None:
        _require(bool(self.name), f"{path}.name", "be a name", self.name)


@dataclass(frozen=True)
class ModelSection(Section):
    """Which model to build.

    Attributes:
        builder: A name of the model zoo, or `package.module:function`, which is imported only where the code
            that started the training allowed that very text.
        arguments: Keyword arguments of the builder, next to what it learns from the data.
    """

    builder: str
    arguments: Json = field(default_factory=dict)

    def _check(self, path: str) -> None:
        _require(bool(self.builder), f"{path}.builder", "be a name", self.builder)


@dataclass(frozen=True)
class DataSection(Section):
    """What to train on.

    Attributes:
        train: URI of the training snapshot.
        features: A feature specification as JSON: numeric, categorical, label.
        validation: URI of a snapshot that is measured after each epoch.
        label: Name of the label column; that of `features` by default.
        batch_size: Rows a step.
        preprocessing: Keyword arguments of `Preprocessor.fit`, such as `max_categories` and `min_count`.
    """

    train: str
    features: Json
    validation: str | None = None
    label: str | None = None
    batch_size: int = 1024
    preprocessing: Json = field(default_factory=dict)

    def _check(self, path: str) -> None:
        _positive(self.batch_size, f"{path}.batch_size")
        _require(
            isinstance(self.label_column, str), f"{path}.label", "be given, here or in features", self.label
        )

    @property
    def label_column(self) -> str:
        """The label column's name."""
        return self.label if self.label is not None else self.features.get("label")  # type: ignore[return-value]


@dataclass(frozen=True)
class CheckpointSection(Section):
    """When to write checkpoints, and how many to keep. A SIGTERM writes one in any case."""

    every_steps: int | None = None
    every_seconds: float | None = 30.0
    keep: int = 2

    def _check(self, path: str) -> None:
        _positive(self.every_steps, f"{path}.every_steps")
        _positive(self.every_seconds, f"{path}.every_seconds")
        _positive(self.keep, f"{path}.keep")


@dataclass(frozen=True)
class EarlyStoppingSection(Section):
    """Keep the best epoch instead of the last, and stop when it no longer gets better.

    Attributes:
        metric: A metric of the validation snapshot: "loss" or one of the specification's metrics.
        mode: "min" or "max"; whether less or more is better.
        patience: Epochs without improvement after which training stops; null trains all epochs.
        minimum_change: What counts as an improvement.
    """

    metric: str = "loss"
    mode: str = "min"
    patience: int | None = 2
    minimum_change: float = 0.0

    def _check(self, path: str) -> None:
        _require(self.mode in ("min", "max"), f"{path}.mode", "be 'min' or 'max'", self.mode)
        _positive(self.patience, f"{path}.patience")
        _require(self.minimum_change >= 0, f"{path}.minimum_change", "be at least 0", self.minimum_change)


@dataclass(frozen=True)
class TrainSpec(Section):
    """A whole training as data. Sections may be given as dictionaries.

    Attributes:
        model: Which model; see :class:`ModelSection`.
        data: On which rows; see :class:`DataSection`.
        loss: Name of a loss, or name and arguments.
        optimizer: Name of an optimizer, and its arguments.
        schedule: Name of a learning-rate schedule, and its arguments; `max_update` defaults to the number of
            steps.
        epochs: Passes over the training rows; exactly one of `epochs` and `steps` is given.
        steps: Optimizer steps.
        seed: Initial values, order of rows and dropout follow from it.
        metrics: Names of the metrics measured on the validation snapshot.
        checkpoint: See :class:`CheckpointSection`.
        early_stopping: See :class:`EarlyStoppingSection`; needs a validation snapshot.
        warm_start: A model folder whose weights are the initial values where name and shape agree.
        threads: Threads of the engine; bits may depend on it. Null leaves the engine's default.
        precision: "bfloat16" trains with matrix work in bfloat16; weights, and the model's predictions, are
            float32 in any case.

    Raises:
        SpecificationError: On any field that does not fit, and on an address with credentials in it: a
            specification is stored and shown. They belong into the environment of the job.

    Example:
        >>> spec = TrainSpec(
        ...     model={"builder": "mlp"},
        ...     data={"train": "flights/train", "features": {"numeric": ["distance"], "label": "late"}},
        ...     epochs=3,
        ... )
        >>> TrainSpec.from_json(spec.to_json()) == spec
        True
        >>> TrainSpec.from_json({"modle": {}})
        Traceback (most recent call last):
        ...
        mxpipe.errors.SpecificationError: [spec] spec.modle must be a known field, one of ['checkpoint', ...
    """

    model: ModelSection
    data: DataSection
    loss: Named = Named("sigmoid_binary_cross_entropy")
    optimizer: Named = Named("adam")
    schedule: Named | None = None
    epochs: int | None = None
    steps: int | None = None
    seed: int = 0
    metrics: tuple[str, ...] = ()
    checkpoint: CheckpointSection = CheckpointSection()
    early_stopping: EarlyStoppingSection | None = None
    warm_start: str | None = None
    threads: int | None = None
    precision: str = "float32"

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, hint in hints.items():  # dictionaries and names become sections
            object.__setattr__(self, name, _coerce(hint, getattr(self, name), f"spec.{name}"))
        self._check("spec")
        _refuse_credentials(self.to_json(), "spec")

    def _check(self, path: str) -> None:
        given = [name for name in ("epochs", "steps") if getattr(self, name) is not None]
        _require(len(given) == 1, path, "give exactly one of epochs and steps", given)
        _positive(self.epochs, f"{path}.epochs")
        _positive(self.steps, f"{path}.steps")
        _positive(self.threads, f"{path}.threads")
        known_precisions = ("float32", "bfloat16")
        _require(
            self.precision in known_precisions,
            f"{path}.precision",
            f"be one of {known_precisions}",
            self.precision,
        )
        _require(0 <= self.seed < 2**63, f"{path}.seed", "be at least 0 and below 2**63", self.seed)
        if self.early_stopping is not None:
            _require(
                self.data.validation is not None, f"{path}.early_stopping", "come with data.validation", None
            )
            known = ("loss", *self.metrics)
            metric = self.early_stopping.metric
            _require(metric in known, f"{path}.early_stopping.metric", f"be one of {known}", metric)

    def digest(self) -> str:
        """SHA-256 of the specification: the same for the same training.

        Neither the order of keys counts nor whether a default is written out, so that a field that a later
        version adds leaves the digests of older specifications as they are.
        """
        return canonical_digest(self.without_defaults())


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value.to_json()
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _coerce(hint: Any, value: Any, path: str) -> Any:
    """Check a JSON value against a field's type; turn objects into sections and lists into tuples."""
    if isinstance(hint, types.UnionType):
        if value is None:
            return None
        (hint,) = (option for option in typing.get_args(hint) if option is not types.NoneType)
    if isinstance(hint, type) and issubclass(hint, Section):
        return hint.from_json({"name": value} if hint is Named and isinstance(value, str) else value, path)
    if typing.get_origin(hint) is tuple:
        is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        _require(is_list, path, "be a list of text", value)
        return tuple(value)
    if typing.get_origin(hint) is dict:
        _require(isinstance(value, Mapping), path, "be an object", value)
        _check_json(value, path)
        return _plain(value)
    kinds = (int, float) if hint is float else (hint,)
    fits = isinstance(value, kinds) and not (isinstance(value, bool) and hint is not bool)
    _require(fits, path, f"be of type {hint.__name__}", value)
    return float(value) if hint is float else value


def _refuse_credentials(value: Any, path: str) -> None:
    if isinstance(value, str):
        _require(not holds_credentials(value), path, "hold no credentials", redact(value))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _refuse_credentials(item, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _refuse_credentials(item, f"{path}[{position}]")


def _check_json(value: Any, path: str) -> None:
    if isinstance(value, Mapping):
        for name, item in value.items():
            _require(isinstance(name, str), path, "have text as keys", name)
            _check_json(item, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            _check_json(item, f"{path}[{position}]")
    else:
        finite = not isinstance(value, float) or math.isfinite(value)
        plain = value is None or isinstance(value, (str, bool, int, float))
        _require(plain and finite, path, "be a JSON value", value)
