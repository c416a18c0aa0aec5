"""What a search may change in a training, as JSON: a dimension for each path of the specification.

::

    {
        "optimizer.learning_rate": {"type": "log_uniform", "low": 1e-4, "high": 1e-1},
        "model.dropout": {"type": "uniform", "low": 0.0, "high": 0.5},
        "data.batch_size": {"type": "integers", "low": 64, "high": 512, "step": 64},
        "model.hidden_units": {"type": "choices", "options": [[32], [64, 32]]}
    }

A path names a field as the specification's JSON nests it; of a section that has `arguments` (model,
optimizer, loss, schedule), any other name is one of these.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mxpipe.errors import SpecificationError, require
from mxpipe.train.spec import TrainSpec

Json = dict[str, Any]
Parameters = dict[str, Any]

_FIELDS: Mapping[str, frozenset[str]] = {
    "uniform": frozenset(("low", "high")),
    "log_uniform": frozenset(("low", "high")),
    "integers": frozenset(("low", "high", "step", "log")),
    "choices": frozenset(("options",)),
}


def uniform(low: float, high: float) -> Json:
    """Any number from `low` to `high`."""
    return {"type": "uniform", "low": low, "high": high}


def log_uniform(low: float, high: float) -> Json:
    """Any number from `low` to `high`, each order of magnitude as likely as the others."""
    return {"type": "log_uniform", "low": low, "high": high}


def integers(low: int, high: int, step: int = 1, log: bool = False) -> Json:
    """Whole numbers from `low` up to `high`, both included; `log` favours the small ones, at a step of 1."""
    return {"type": "integers", "low": low, "high": high, "step": step, "log": log}


def choices(*options: Any) -> Json:
    """One of some JSON values, in no order."""
    return {"type": "choices", "options": list(options)}


class SearchSpace:
    """Dimensions by path, checked.

    Args:
        dimensions: Path to dimension; see the functions of this module.

    Raises:
        SpecificationError: A dimension is malformed or empty.

    Example:
        >>> space = SearchSpace({"optimizer.learning_rate": log_uniform(1e-4, 1e-1)})
        >>> spec = {"optimizer": "adam", "model": {"builder": "mlp"}}
        >>> space.changed(spec, {"optimizer.learning_rate": 0.01})["optimizer"]
        {'name': 'adam', 'arguments': {'learning_rate': 0.01}}
    """

    def __init__(self, dimensions: Mapping[str, Mapping[str, Any]]) -> None:
        if not isinstance(dimensions, Mapping) or not dimensions:
            raise SpecificationError("[space] there must be a dimension for at least one path; got none.")
        for path, dimension in dimensions.items():
            _check(path, dimension)
        # In order of their paths, so that a sampler draws them in an order that nobody's typing decides.
        self.dimensions: dict[str, Json] = {path: dict(dimensions[path]) for path in sorted(dimensions)}

    def to_json(self) -> Json:
        """The space as JSON values."""
        return copy.deepcopy(self.dimensions)

    def changed(self, spec: Mapping[str, Any], parameters: Mapping[str, Any]) -> Json:
        """A specification's JSON with some of its values replaced.

        Raises:
            SpecificationError: A path leads through something that is no object.
        """
        changed = copy.deepcopy(dict(spec))
        for path, value in parameters.items():
            *above, name = _steps(changed, path)
            inside = changed
            for step in above:
                inside = _object_at(inside, step, path)
            inside[name] = value
        return changed

    def check(self, spec: TrainSpec) -> None:
        """Check that every corner of the space makes a specification.

        Raises:
            SpecificationError: A path is no field of it, or a value is out of the field's range.
        """
        plain = spec.to_json()
        for path, dimension in self.dimensions.items():
            for value in _ends(dimension):
                TrainSpec.from_json(self.changed(plain, {path: value}))

    def distributions(self) -> dict[str, Any]:
        """The dimensions as Optuna's; a choice is drawn by its position, since options may be lists."""
        return {path: _distribution(dimension) for path, dimension in self.dimensions.items()}

    def drawn(self, values: Mapping[str, Any]) -> Parameters:
        """Parameters of the values that a sampler drew."""
        return {
            path: dimension["options"][values[path]] if dimension["type"] == "choices" else values[path]
            for path, dimension in self.dimensions.items()
        }

    def undrawn(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The values that a sampler would have had to draw."""
        return {
            path: dimension["options"].index(parameters[path])
            if dimension["type"] == "choices"
            else parameters[path]
            for path, dimension in self.dimensions.items()
        }


def _check(path: str, dimension: Any) -> None:
    def must(holds: bool, rule: str) -> None:
        if not holds:
            raise SpecificationError(f"[space] {path} must {rule}; got {dimension!r}.")

    must(isinstance(path, str) and all(path.split(".")), "be a path such as optimizer.learning_rate")
    kind = dimension.get("type", "") if isinstance(dimension, Mapping) else ""
    must(kind in _FIELDS, f"have a type of {list(_FIELDS)}")
    must(set(dimension) - {"type"} <= _FIELDS[kind], f"have the fields {sorted(_FIELDS[kind])} only")
    if kind == "choices":
        options = dimension.get("options")
        must(isinstance(options, list) and len(options) > 0, "have a list of options")
        return
    numbers = [dimension.get("low"), dimension.get("high")]
    kinds = (int,) if kind == "integers" else (int, float)
    plain = all(isinstance(number, kinds) and not isinstance(number, bool) for number in numbers)
    must(plain and all(map(math.isfinite, numbers)), "have a low and a high number")
    low, high = numbers
    must(low < high, "have a low below its high")
    must(low > 0 or not (kind == "log_uniform" or dimension.get("log")), "have a positive low")
    step = dimension.get("step", 1)
    must(isinstance(step, int) and step >= 1, "have a step of at least 1")
    must(step == 1 or not dimension.get("log"), "have a step of 1 where it is logarithmic")


def _steps(spec: Mapping[str, Any], path: str) -> list[str]:
    """The path through the JSON; a section with arguments takes an unknown name for one of these."""
    section, *rest = path.split(".")
    own = {"model": ("builder", "arguments")}.get(section, ("name", "arguments"))
    if section in ("model", "optimizer", "loss", "schedule") and rest and rest[0] not in own:
        rest = ["arguments", *rest]
    return [section, *rest]


def _object_at(inside: dict[str, Any], step: str, path: str) -> dict[str, Any]:
    value = inside.get(step)
    if value is None:
        value = {}
    elif isinstance(value, str) and step in ("optimizer", "loss", "schedule"):
        value = {"name": value}
    if not isinstance(value, dict):
        raise SpecificationError(f"[space] {path} must lead through objects; got {value!r} at {step}.")
    inside[step] = value
    return value


def _ends(dimension: Mapping[str, Any]) -> Iterator[Any]:
    is_choice = dimension["type"] == "choices"
    yield from dimension["options"] if is_choice else (dimension["low"], dimension["high"])


def _distribution(dimension: Mapping[str, Any]) -> Any:
    optuna = require("optuna.distributions", extra="tune")
    kind = dimension["type"]
    if kind == "choices":
        return optuna.CategoricalDistribution(range(len(dimension["options"])))
    low, high = dimension["low"], dimension["high"]
    if kind == "integers":
        log, step = dimension.get("log", False), dimension.get("step", 1)
        return optuna.IntDistribution(low, high, log=log, step=step)
    return optuna.FloatDistribution(float(low), float(high), log=kind == "log_uniform")
