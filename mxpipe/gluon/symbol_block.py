"""SymbolBlock: a block made of an expression or an exported graph, instead of Python code."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mxpipe import _native, np, symbol
from mxpipe._native import Array
from mxpipe.errors import BlockError, ModelFormatError
from mxpipe.symbol import Symbol

from .files import read_arrays
from .hybrid import HybridBlock
from .parameter import Parameter

__all__ = ["SymbolBlock"]


class SymbolBlock(HybridBlock):
    """Runs an expression; variables that are no inputs become parameters.

    Args:
        outputs: The expression, or a list of them.
        inputs: Its input variables.
        params: Values of the other variables, by name; those without one are initialized as usual, and need
            a shape.

    Example:
        >>> import mxpipe as mx
        >>> x, w = mx.sym.var("x"), mx.sym.var("w", shape=(2, 3))
        >>> net = mx.gluon.SymbolBlock(mx.np.matmul(x, w), x)
        >>> net.initialize(mx.init.One())
        >>> net(mx.np.ones((1, 2))).asnumpy().tolist()
        [[2.0, 2.0, 2.0]]
    """

    def __init__(
        self,
        outputs: Symbol | Sequence[Symbol],
        inputs: Symbol | Sequence[Symbol],
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._expression = outputs if isinstance(outputs, Symbol) else symbol.Group(outputs)
        self._input_names = [str(item.name) for item in ([inputs] if isinstance(inputs, Symbol) else inputs)]
        variables = {node.name: node for node in self._expression._nodes() if node.operation is None}
        for name, node in variables.items():
            if name not in self._input_names:
                self._add_parameter(name, node.shape, node.dtype or "float32", (params or {}).get(name))

    @staticmethod
    def imports(
        symbol_file: str | os.PathLike[str],
        input_names: str | Sequence[str] | None = None,
        param_file: str | os.PathLike[str] | None = None,
        device: Any = None,
    ) -> HybridBlock:
        """A block from files that `HybridBlock.export` or `Symbol.save` wrote.

        Args:
            symbol_file: The JSON file.
            input_names: Names of its inputs; those that were exported where None.
            param_file: The safetensors file of the parameters.
            device: Accepted for programs that name one; there is one device.

        Raises:
            ModelFormatError: A file is damaged, or the two do not belong together.
        """
        with open(symbol_file, encoding="utf-8") as file:
            text = file.read()
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelFormatError(f"[{symbol_file}] the file must be JSON; got {error}.") from error
        arrays = read_arrays(param_file)[0] if param_file is not None else {}
        names = [input_names] if isinstance(input_names, str) else input_names
        if isinstance(content, dict) and content.get("format") == "mxpipe-graph":
            return _GraphBlock(content, arrays, names, str(symbol_file))
        expression = symbol.load_json(text)
        return SymbolBlock(expression, [symbol.var(name) for name in names or ["data"]], arrays)

    def _add_parameter(self, name: str, shape: Any, dtype: Any, value: Any) -> None:
        if value is not None:
            array = value if isinstance(value, Array) else np.array(value)
            shape, dtype = array.shape, array.dtype
        parameter = Parameter(name, shape=shape, dtype=dtype, allow_deferred_init=True)
        if value is not None:
            parameter.set_data(array)
        self._reg_params[name] = parameter

    def forward(self, *args: Array) -> Any:
        """The expression's value, a tuple where it has several."""
        bindings = dict(zip(self._input_names, args, strict=True))
        bindings |= {name: parameter.data() for name, parameter in self._reg_params.items()}
        results = self._expression._evaluate_flat(bindings)
        return results[0] if len(results) == 1 else results


class _GraphBlock(HybridBlock):
    """An exported graph, typed anew for each batch size."""

    def __init__(
        self,
        content: Mapping[str, Any],
        arrays: Mapping[str, Array],
        input_names: Sequence[str] | None,
        source: str,
    ) -> None:
        super().__init__()
        try:
            self._input_names = [str(name) for name in content["inputs"]]
            parameter_names = [str(name) for name in content["parameters"]]
            self._graph = _native.Graph.from_json(json.dumps(content["graph"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFormatError(
                f"[{source}] the file must hold an exported graph; got {error!r}."
            ) from error
        if input_names is not None and list(input_names) != self._input_names:
            raise BlockError(f"[{source}] inputs must be {self._input_names}; got {list(input_names)}.")
        if len(self._graph.inputs) != len(self._input_names) + len(parameter_names):
            raise ModelFormatError(
                f"[{source}] inputs and parameters must be those of the graph ({len(self._graph.inputs)}); "
                f"got {len(self._input_names)} and {len(parameter_names)}."
            )
        self._retyped: dict[Any, Any] = {}
        for name, (_, shape, dtype) in zip(
            parameter_names, self._graph.inputs[len(self._input_names) :], strict=True
        ):
            parameter = Parameter(name, shape=tuple(shape), dtype=dtype, allow_deferred_init=True)
            if name in arrays:
                parameter.set_data(arrays[name])
            self._reg_params[name] = parameter

    def forward(self, *args: Array) -> Any:
        """The graph's outputs, a tuple where it has several."""
        arrays = [*args, *(parameter.data() for parameter in self._reg_params.values())]
        kinds = tuple([(array.shape, array.dtype) for array in arrays])
        if kinds not in self._retyped:
            self._retyped[kinds] = self._graph.retype(list(kinds)).compile()
        results = self._retyped[kinds](*arrays)
        return results[0] if len(results) == 1 else results
