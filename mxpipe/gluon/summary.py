"""The table that `Block.summary` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mxpipe import autograd
from mxpipe.errors import BlockError

if TYPE_CHECKING:
    from .block import Block, HookHandle

__all__ = ["print_summary"]


def print_summary(net: Block, *inputs: Any) -> None:
    """Run the network once in predict mode and print a line for each layer.

    Raises:
        BlockError: A block is hybridized: its layers do not run one by one.
    """
    rows: list[tuple[str, str, int]] = []
    handles: list[HookHandle] = []

    def watch(block: Block) -> None:
        if getattr(block, "_active", False):
            raise BlockError(
                f"[summary] {type(block).__name__} must not be hybridized; call hybridize(False)."
            )

        def note(block: Block, _: tuple[Any, ...], outputs: Any) -> None:
            count = sum(parameter.data().size for parameter in block.params.values())
            rows.append((f"{type(block).__name__}-{len(rows)}", _shapes(outputs), count))

        handles.append(block.register_forward_hook(note))

    rows.append(("Input", _shapes(inputs if len(inputs) > 1 else inputs[0]), 0))
    try:
        net.apply(watch)
        with autograd.pause():
            net(*inputs)
    finally:
        for handle in handles:
            handle.detach()
    parameters = {id(parameter): parameter for parameter in net.collect_params().values()}.values()
    total = sum(parameter.data().size for parameter in parameters)
    trained = sum(parameter.data().size for parameter in parameters if parameter.grad_req != "null")
    line = "{:>24}  {:>36}  {:>14}".format
    print("\n".join([line("Layer (type)", "Output shape", "Parameters"), "=" * 78]))
    print("\n".join(line(name, shapes, f"{count:,}") for name, shapes, count in rows))
    print("\n".join(["=" * 78, f"Parameters: {total:,}, trained: {trained:,}"]))


def _shapes(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_shapes(item) for item in value)
    return str(getattr(value, "shape", value))
