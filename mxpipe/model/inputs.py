"""What a loaded model takes: raw columns through a preprocessor, or arrays as the net takes them.

Enters: what a caller passes to `Model.predict`. Leaves: the arrays of the graph's first inputs, by name, with
one row each for the other's; or a `RequestError` that names the column or tensor which does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mxpipe.errors import DataError, RequestError
from mxpipe.model.format import Column, Tensor

if TYPE_CHECKING:
    from mxpipe.data import Preprocessor

Arrays = dict[str, npt.NDArray[Any]]


class Inputs(Protocol):
    """One way to feed a graph."""

    def arrays(self, data: Any) -> Arrays:
        """The graph's inputs for the rows of `data`.

        Raises:
            RequestError: The data does not fit.
        """
        ...

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one row of each of the graph's inputs."""
        ...

    def blank(self, rows: int) -> Any:
        """So many rows without content, as `predict` takes them."""
        ...


class ColumnInputs:
    """Raw columns, which a preprocessor turns into two matrices."""

    def __init__(self, signature: Sequence[Column], preprocessor: Preprocessor) -> None:
        self._signature, self._preprocessor = signature, preprocessor

    def arrays(self, data: Mapping[str, Any]) -> Arrays:
        """Preprocess columns."""
        present = set(getattr(data, "column_names", data))
        for column in self._signature:
            if column.required and column.name not in present:
                raise RequestError(
                    f"[request] column {column.name!r} ({column.dtype}) must be given; got {sorted(present)}."
                )
        try:
            return self._preprocessor.transform(data)
        except DataError as error:  # SchemaError too: here the columns are the client's
            raise RequestError(str(error)) from error

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Widths of the two matrices."""
        preprocessor = self._preprocessor
        return {"numeric": (preprocessor.numeric_width,), "categorical": (len(preprocessor.categorical),)}

    def blank(self, rows: int) -> dict[str, Any]:
        """Columns without a value."""
        return {
            name: [None] * rows if dtype == "string" else np.full(rows, np.nan)
            for name, dtype in self._preprocessor.column_types.items()
        }


class TensorInputs:
    """Arrays, taken as they are."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = tensors

    def arrays(self, data: Any) -> Arrays:
        """Check arrays against the signature; numbers of another width are converted."""
        if not isinstance(data, Mapping):
            if len(self._tensors) != 1:
                names = [tensor.name for tensor in self._tensors]
                raise RequestError(f"[request] the tensors {names} must be given by name; got one array.")
            data = {self._tensors[0].name: data}
        arrays = {tensor.name: _checked(tensor, data) for tensor in self._tensors}
        rows = {name: len(array) for name, array in arrays.items()}
        if len(set(rows.values())) > 1:
            raise RequestError(f"[request] all tensors must have the same number of rows; got {rows}.")
        return arrays

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of one row."""
        return {tensor.name: tensor.shape for tensor in self._tensors}

    def blank(self, rows: int) -> Arrays:
        """Zeros."""
        return {tensor.name: np.zeros((rows, *tensor.shape), tensor.dtype) for tensor in self._tensors}


def _checked(tensor: Tensor, data: Mapping[str, Any]) -> npt.NDArray[Any]:
    if tensor.name not in data:
        raise RequestError(
            f"[request] tensor {tensor.name!r} ({tensor.dtype}) must be given; got {sorted(map(str, data))}."
        )
    try:
        array = np.asarray(data[tensor.name])
    except ValueError as error:  # rows of different lengths
        raise RequestError(f"[request] tensor {tensor.name!r} must be one array; got {error}.") from error
    # Integers may become floats, and numbers narrower ones of their kind; floats never become integers.
    if not np.can_cast(array.dtype, tensor.dtype, casting="same_kind"):
        raise RequestError(f"[request] tensor {tensor.name!r} must be {tensor.dtype}; got {array.dtype}.")
    if array.shape[1:] != tensor.shape or array.ndim == 0:
        shape = ("n", *tensor.shape)
        raise RequestError(
            f"[request] tensor {tensor.name!r} must have the shape ({', '.join(map(str, shape))});"
            f" got {array.shape}."
        )
    kind = np.iinfo(tensor.dtype) if np.dtype(tensor.dtype).kind in "iu" else None
    if kind is not None and array.size and not kind.min <= array.min() <= array.max() <= kind.max:
        raise RequestError(f"[request] tensor {tensor.name!r} must be within {tensor.dtype}; got more.")
    return np.ascontiguousarray(array, dtype=tensor.dtype)
