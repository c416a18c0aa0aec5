"""What a model was asked and what it answered, as statistics: mergeable, and small on disk.

Enters: columns and predictions, batch by batch, from a server, a partition of a batch prediction or a
snapshot. Leaves: :class:`PredictionStatistics`, whose state is JSON, so that parts are merged over servers,
partitions and time. Neither pyarrow nor the engine is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mxpipe.data.statistics import Statistics, StatisticsAccumulator
from mxpipe.errors import DataError

if TYPE_CHECKING:
    import pyarrow

    from mxpipe.model import Model

FORMAT_VERSION = 1
CAPACITY = 1024  # of the sketches: a rank error of 0.5% for a million rows, 8 KB a level
MAX_CATEGORIES = 4096


class PredictionStatistics:
    """Statistics of the inputs and outputs of one model.

    Args:
        columns: Type by name of the model's raw columns.
        outputs: Names of the columns of its predictions.

    Attributes:
        rows: Rows predicted and counted.
        failed: Rows for which there was an error in place of a prediction; they are in no other figure.
        dropped: Rows that were predicted but not counted, because counting must not hold up serving.

    Example:
        >>> day = PredictionStatistics({"distance": "float64", "carrier": "string"}, ["late"])
        >>> day.update({"distance": [733.0, None], "carrier": ["UA", "DL"]}, np.float32([0.25, 0.75]))
        >>> another = PredictionStatistics.from_json(day.to_json())
        >>> day.merge(another)
        >>> day.rows, day.inputs["carrier"].categories, day.predictions["late"].mean
        (4, (('DL', 2), ('UA', 2)), 0.5)
    """

    def __init__(self, columns: Mapping[str, str], outputs: Sequence[str]) -> None:
        self.columns, self.outputs = dict(columns), tuple(outputs)
        self.rows = self.failed = self.dropped = 0
        self._inputs = _accumulator(self.columns)
        self._predictions = _accumulator(dict.fromkeys(self.outputs, "float32"))

    @classmethod
    def of_rows(cls, model: Model, tables: Iterable[pyarrow.Table]) -> PredictionStatistics:
        """Predict for rows, such as ``snapshot.tables()``, and count them."""
        statistics = cls.of_model(model)
        for table in tables:
            if table.num_rows:
                statistics.update(table, model.predict(table))
        return statistics

    @classmethod
    def of_model(cls, model: Model) -> PredictionStatistics:
        """Empty statistics for a loaded model."""
        return cls({column.name: column.dtype for column in model.signature}, model.output_names)

    def update(self, columns: Mapping[str, Any], predictions: np.ndarray[Any, Any]) -> None:
        """Count a batch.

        Args:
            columns: The raw columns as ``Model.predict`` takes them: NumPy arrays, pandas or Arrow columns,
                or sequences; a DataFrame or an Arrow table will do.
            predictions: What the model answered, shape (n,) or (n, outputs), or with further axes for a
                single output.

        Raises:
            DataError: The predictions have another number of columns.
        """
        rows = len(predictions)
        answers = np.asarray(predictions).reshape(rows, -1) if rows else np.empty((0, len(self.outputs)))
        if np.ndim(predictions) > 2 and len(self.outputs) == 1:
            answers = answers.reshape(-1, 1)  # a whole array a row: all of its values in one distribution
        if rows and answers.shape[1] != len(self.outputs):
            raise DataError(
                f"[statistics] predictions must have {len(self.outputs)} columns; got {answers.shape[1]}."
            )
        if rows:
            self._inputs.update_columns(columns, rows)
            self._predictions.update_columns(dict(zip(self.outputs, answers.T, strict=True)), len(answers))
            self.rows += rows

    def merge(self, other: PredictionStatistics) -> None:
        """Add what another part of the same model's predictions has seen.

        Raises:
            DataError: The other part is of a model with other columns or outputs.
        """
        if (self.columns, self.outputs) != (other.columns, other.outputs):
            raise DataError(
                f"[statistics] parts must be of the columns {', '.join(self.columns)} and the outputs "
                f"{', '.join(self.outputs)}; got {', '.join(other.columns)} and {', '.join(other.outputs)}."
            )
        self.rows += other.rows
        self.failed += other.failed
        self.dropped += other.dropped
        self._inputs.merge(other._inputs)
        self._predictions.merge(other._predictions)

    @property
    def inputs(self) -> Statistics:
        """Statistics of the raw columns."""
        return self._inputs.finish()

    @property
    def predictions(self) -> Statistics:
        """Statistics of the predictions' columns."""
        return self._predictions.finish()

    def histogram(self, name: str, edges: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Values of an input or an output by bin; see :meth:`StatisticsAccumulator.histogram`."""
        counted = self._inputs if name in self.columns else self._predictions
        return counted.histogram(name, edges)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "version": FORMAT_VERSION,
            "columns": self.columns,
            "outputs": list(self.outputs),
            "rows": self.rows,
            "failed": self.failed,
            "dropped": self.dropped,
            "inputs": self._inputs.to_json(),
            "predictions": self._predictions.to_json(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PredictionStatistics:
        """The statistics that :meth:`to_json` wrote.

        Raises:
            DataError: A field is missing or of another type.
        """
        try:
            if value["version"] != FORMAT_VERSION:
                raise DataError(f"[statistics] 'version' must be {FORMAT_VERSION}; got {value['version']!r}.")
            statistics = cls(value["columns"], value["outputs"])
            for name in ("rows", "failed", "dropped"):
                setattr(statistics, name, int(value[name]))
            statistics._inputs = StatisticsAccumulator.from_json(value["inputs"])
            statistics._predictions = StatisticsAccumulator.from_json(value["predictions"])
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"[statistics] they must have all fields of PredictionStatistics; got {error!r}."
            ) from error
        return statistics


def _accumulator(columns: Mapping[str, str]) -> StatisticsAccumulator:
    schema = [{"name": name, "type": kind} for name, kind in columns.items()]
    return StatisticsAccumulator(schema, CAPACITY, MAX_CATEGORIES)
