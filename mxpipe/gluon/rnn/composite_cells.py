"""Cells made of cells: in sequence, both ways, and with dropout, zoneout or a residual around them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mxpipe import autograd, np, npx
from mxpipe._native import Array
from mxpipe.errors import BlockError

from .cells import RecurrentCell

__all__ = [
    "BidirectionalCell",
    "DropoutCell",
    "HybridSequentialRNNCell",
    "ModifierCell",
    "ResidualCell",
    "SequentialRNNCell",
    "ZoneoutCell",
]


class _CompositeCell(RecurrentCell):
    """A cell whose states are those of its children, one after the other."""

    def _cells(self) -> Iterator[RecurrentCell]:
        for child in self._children.values():
            if isinstance(child, RecurrentCell):
                yield child

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Of all children."""
        return [info for cell in self._cells() for info in cell.state_info(batch_size)]

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., Array] = np.zeros, **arguments: Any
    ) -> list[Array]:
        """First states of all children."""
        return [state for cell in self._cells() for state in cell.begin_state(batch_size, func, **arguments)]

    def _shared(self, states: Sequence[Array]) -> list[list[Array]]:
        """The states of each child."""
        shares, position = [], 0
        for cell in self._cells():
            count = len(cell.state_info())
            shares.append(list(states[position : position + count]))
            position += count
        if position != len(states):
            raise BlockError(f"[{type(self).__name__}] there must be {position} states; got {len(states)}.")
        return shares


class SequentialRNNCell(_CompositeCell):
    """Cells one above the other: each takes the output of the one before.

    Example:
        >>> import mxpipe as mx
        >>> from mxpipe.gluon import rnn
        >>> cell = SequentialRNNCell()
        >>> cell.add(rnn.LSTMCell(5), rnn.DropoutCell(0.5), rnn.GRUCell(6))
        >>> cell.initialize()
        >>> outputs, states = cell.unroll(7, mx.np.ones((3, 7, 4)))
        >>> outputs.shape, len(states)
        ((3, 7, 6), 3)
    """

    def add(self, *cells: RecurrentCell) -> None:
        """Append cells."""
        for cell in cells:
            self.register_child(cell)

    def __len__(self) -> int:
        return len(self._children)

    def __getitem__(self, index: int) -> Any:
        return list(self._children.values())[index]

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The output of the last cell, and the new states of all."""
        after: list[Array] = []
        for cell, own in zip(self._cells(), self._shared(states), strict=True):
            inputs, new = cell(inputs, own)
            after += new
        return inputs, after


HybridSequentialRNNCell = SequentialRNNCell


class DropoutCell(RecurrentCell):
    """Drops a share of its inputs in training; it has no states.

    Args:
        rate: Share from 0 (inclusive) to 1 (exclusive).
        axes: Axes along which one decision is shared.
    """

    def __init__(self, rate: float, axes: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise BlockError(f"[DropoutCell] rate must be at least 0 and less than 1; got {rate}.")
        self._rate = rate
        self._axes = tuple(axes)

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """None."""
        return []

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The inputs, some of them dropped."""
        return (npx.dropout(inputs, self._rate, axes=self._axes) if self._rate > 0 else inputs), list(states)

    def __repr__(self) -> str:
        return f"DropoutCell(rate={self._rate}, axes={self._axes})"


class ModifierCell(RecurrentCell):
    """Base of cells around another cell, whose states and parameters are theirs.

    Args:
        base_cell: The cell inside.
    """

    def __init__(self, base_cell: RecurrentCell) -> None:
        super().__init__()
        self.base_cell = base_cell

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Of the cell inside."""
        return self.base_cell.state_info(batch_size)

    def begin_state(
        self, batch_size: int = 0, func: Callable[..., Array] = np.zeros, **arguments: Any
    ) -> list[Array]:
        """First states of the cell inside."""
        return self.base_cell.begin_state(batch_size, func, **arguments)


class ResidualCell(ModifierCell):
    """Adds the inputs to the outputs (He et al. 2015); they must have the same size."""

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The output of the cell inside plus its input."""
        output, after = self.base_cell(inputs, states)
        return output + inputs, after


class ZoneoutCell(ModifierCell):
    """Keeps a share of the outputs and states of the step before, in training (Krueger et al. 2016).

    Args:
        base_cell: The cell inside.
        zoneout_outputs: Share of the outputs that stay; the first step's are then zeros.
        zoneout_states: Share of the states that stay.
    """

    def __init__(
        self, base_cell: RecurrentCell, zoneout_outputs: float = 0.0, zoneout_states: float = 0.0
    ) -> None:
        super().__init__(base_cell)
        for name, share in (("zoneout_outputs", zoneout_outputs), ("zoneout_states", zoneout_states)):
            if not 0.0 <= share < 1.0:
                raise BlockError(f"[ZoneoutCell] {name} must be at least 0 and less than 1; got {share}.")
        self._zoneout_outputs = zoneout_outputs
        self._zoneout_states = zoneout_states
        self._previous: Array | None = None

    def reset(self) -> None:
        """Forget the output of the step before."""
        super().reset()
        self._previous = None

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """The output and the new states of the cell inside, some of them as before."""
        output, after = self.base_cell(inputs, states)
        before = np.zeros_like(output) if self._previous is None else self._previous
        output = _zoned_out(output, before, self._zoneout_outputs)
        self._previous = output
        return output, [
            _zoned_out(new, old, self._zoneout_states) for new, old in zip(after, states, strict=True)
        ]


def _zoned_out(new: Array, old: Array, share: float) -> Array:
    if share == 0 or not autograd.is_training():
        return new
    return np.where(npx.dropout(np.ones_like(new), share) > 0, new, old)


class BidirectionalCell(_CompositeCell):
    """Two cells that walk a sequence both ways; their outputs lie side by side. For `unroll` only.

    Args:
        l_cell: Walks from the first step to the last.
        r_cell: Walks from the last step to the first.

    Example:
        >>> import mxpipe as mx
        >>> from mxpipe.gluon import rnn
        >>> cell = BidirectionalCell(rnn.LSTMCell(5), rnn.LSTMCell(5))
        >>> cell.initialize()
        >>> cell.unroll(7, mx.np.ones((3, 7, 4)))[0].shape
        (3, 7, 10)
    """

    def __init__(self, l_cell: RecurrentCell, r_cell: RecurrentCell) -> None:
        super().__init__()
        self.l_cell = l_cell
        self.r_cell = r_cell

    def forward(self, inputs: Array, states: Sequence[Array]) -> tuple[Array, list[Array]]:
        """Not defined: the way back begins at the end of a sequence."""
        raise BlockError("[BidirectionalCell] a sequence must be given as a whole: call unroll.")

    def _run_steps(
        self, steps: list[Array], states: list[Array], valid_length: Array | None
    ) -> tuple[list[Array], list[Array]]:
        left_states, right_states = self._shared(states)
        left, left_after = self.l_cell._run_steps(steps, left_states, valid_length)
        right, right_after = self.r_cell._run_steps(_turned(steps, valid_length), right_states, valid_length)
        pairs = zip(left, _turned(right, valid_length), strict=True)
        return [np.concatenate(pair, axis=-1) for pair in pairs], left_after + right_after


def _turned(steps: list[Array], valid_length: Array | None) -> list[Array]:
    """The steps of each row in reverse order; those behind its last one stay where they are."""
    if valid_length is None:
        return steps[::-1]
    return list(npx.sequence_reverse(np.stack(steps), valid_length, use_sequence_length=True))
