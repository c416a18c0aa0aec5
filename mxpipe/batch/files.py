"""Prediction from file to file, batch by batch: ``mxpipe predict`` for tables that are no snapshots."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from mxpipe.batch.model import PinnedModel
from mxpipe.batch.partition import make_predictor
from mxpipe.batch.predictor import PredictionOptions, counted
from mxpipe.data.files import file_kind, read_rows, writing_rows
from mxpipe.errors import DataError


class FilePredictions(NamedTuple):
    """What was written.

    Attributes:
        rows: Rows that were read.
        refused: Rows without a prediction, by reason.
        errors: The file that holds them; None without any.
    """

    rows: int
    refused: dict[str, int]
    errors: Path | None


def predict_file(
    input_uri: str | Path,
    model: PinnedModel,
    output: str | Path,
    options: PredictionOptions | None = None,
    *,
    errors: str | Path | None = None,
) -> FilePredictions:
    """Predict the rows of a file.

    Args:
        input_uri: Parquet, Arrow, CSV or JSON lines: a path, folder or pattern that fsspec understands.
        model: What ``resolve_model`` returned.
        output: Local file of keys and predictions; the suffix says how.
        options: What is carried through and what is refused.
        errors: Local file of refused rows, ``OUTPUT.errors.SUFFIX`` by default; made when there are any.

    Raises:
        SchemaError: The rows lack a column, or hold one that can never be read.
        DataError: The input cannot be read, or has no rows.
        StorageError: The disk is full; nothing is left.
    """
    output = Path(output)
    aside = Path(errors) if errors is not None else output.with_suffix(f".errors{output.suffix}")
    file_kind(output), file_kind(aside)  # before anything is read
    predictor = make_predictor(model, options or PredictionOptions(), None)
    rows, refused = 0, Counter[str]()
    with contextlib.ExitStack() as files:
        write = files.enter_context(writing_rows(output))
        write_error: Any = None
        for table in predictor.tables(read_rows(input_uri)):
            predictions, failed, scored = predictor.split(table, 0, rows)
            rows += table.num_rows
            write(predictions)
            if failed is not None:
                refused += counted(scored.refused)
                write_error = write_error or files.enter_context(writing_rows(aside))
                write_error(failed)
        if not rows:
            raise DataError(f"[{input_uri}] there must be at least one row; got none.")
    if not refused:
        aside.unlink(missing_ok=True)  # of an earlier prediction
    return FilePredictions(rows, dict(sorted(refused.items())), aside if refused else None)
