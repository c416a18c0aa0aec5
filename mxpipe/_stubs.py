"""Writes the ops' names into `_core.pyi`, so that a type checker knows them: `python -m mxpipe._stubs`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from . import _native

STUB = Path(__file__).with_name("_core.pyi")
BEGIN = "# --- names of the ops, from the registry; do not edit by hand\n"
END = "# --- end of the names\n"

# Ops of several results; `invoke` returns a tuple for them.
SEVERAL = (
    "attention",
    "attention_backward",
    "batch_norm",
    "batch_norm_backward",
    "dot_interaction_backward",
    "gru",
    "gru_backward",
    "layer_norm",
    "layer_norm_backward",
    "lstm",
    "lstm_backward",
    "max_pool",
    "rms_norm",
    "rms_norm_backward",
    "rnn",
    "rnn_backward",
    "softmax_cross_entropy",
    "softmax_cross_entropy_and_gradient",
    "unique_rows",
)


def literal(name: str, ops: Iterable[str]) -> str:
    """A type that holds exactly these names."""
    listed = "".join(f'    "{op}",\n' for op in sorted(ops))
    return f"{name}: TypeAlias = Literal[\n{listed}]\n"


def render(stub: str) -> str:
    """The stub with its section of op names replaced by that of the registry."""
    ops = {schema["name"] for schema in _native.op_schemas()}
    names = literal("_SingleOp", ops - set(SEVERAL)) + literal("_SeveralOp", ops & set(SEVERAL))
    head, _, rest = stub.partition(BEGIN)
    return head + BEGIN + names + END + rest.partition(END)[2]


if __name__ == "__main__":
    STUB.write_text(render(STUB.read_text()))
