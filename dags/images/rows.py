"""Handwritten digits as rows: the 1797 images that scikit-learn carries, in the order in which they came.

Their writers come one after the other, so a later batch holds other hands than an earlier one: a drift that
is real.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from images.features import BATCH_ROWS, LABEL, PIXELS

if TYPE_CHECKING:
    import pyarrow as pa


def digits_until(scratch: Path, batch: int) -> tuple[pa.Table, dict[str, Any]]:
    """All images of the first batches.

    Args:
        scratch: Not used: the images are in memory at once.
        batch: How many batches have arrived, from 1 on.

    Returns:
        64 pixels from 0 to 16, the digit and the image's number a row; and the counts ``rows`` and ``batch``.

    Example:
        >>> table, notes = digits_until(Path(), 1)
        >>> table.num_rows, table.num_columns, notes
        (450, 66, {'rows': 450, 'batch': 1})
    """
    import numpy as np
    import pyarrow as pa
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    rows = min(len(images), int(batch) * BATCH_ROWS)
    columns: dict[str, Any] = {
        "number": np.arange(rows, dtype=np.int32),
        **dict(zip(PIXELS, images[:rows].astype(np.float32).T.copy(), strict=True)),
        LABEL: digits[:rows].astype(np.int32),
    }
    return pa.table(columns), {"rows": rows, "batch": int(batch)}
