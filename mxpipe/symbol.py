"""Symbols: expressions over the functions of `mx.np` and `mx.npx`, without shapes or types.

A Symbol is a recipe. It is named, printed, written as JSON and read back; shapes and types come when it is
evaluated, bound to arrays, or turned into a typed graph.

Example:
    >>> import mxpipe as mx
    >>> x, w = mx.sym.var("x"), mx.sym.var("w")
    >>> y = mx.npx.relu(mx.np.matmul(x, w) - 1)
    >>> y.list_arguments()
    ['x', 'w']
    >>> y.eval(x=mx.np.ones((1, 2)), w=mx.np.ones((2, 3)))[0].asnumpy().tolist()
    [[1.0, 1.0, 1.0]]
    >>> mx.sym.load_json(y.tojson()).infer_shape(x=(4, 2), w=(2, 3))[1]
    [(4, 3)]
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy

from . import _native, autograd, np, npx
from ._native import Array
from ._symbol_executor import Executor
from ._symbol_shapes import Unknown, fill_unknown
from .errors import GraphError, ModelFormatError

__all__ = ["Executor", "Group", "Symbol", "Variable", "load", "load_json", "np", "npx", "var"]

_MODULES = {"np": np, "npx": npx}
_counters: dict[str, Iterator[int]] = {}


def _fresh_name(kind: str) -> str:
    return f"{kind}{next(_counters.setdefault(kind, itertools.count()))}"


class _Node:
    """A variable (no operation), or a call of a function with symbols among its arguments."""

    __slots__ = ("args", "dtype", "kwargs", "name", "operation", "shape")

    def __init__(
        self,
        name: str,
        operation: str | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        shape: tuple[int, ...] | None = None,
        dtype: str | None = None,
    ) -> None:
        self.name = name
        self.operation = operation
        self.args = args
        self.kwargs = kwargs or {}
        self.shape = shape
        self.dtype = dtype

    def inputs(self) -> Iterator[_Node]:
        for value in (*self.args, *self.kwargs.values()):
            yield from _symbols_in(value)


def _symbols_in(value: Any) -> Iterator[_Node]:
    if isinstance(value, Symbol):
        yield from value._heads
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _symbols_in(item)


class Symbol:
    """An expression, or a group of them.

    Functions of `mx.np` and `mx.npx` take symbols as they take arrays, and so do Python's operators.
    """

    __slots__ = ("_heads",)
    __array_priority__ = 1000.0  # NumPy leaves operators with a symbol to the symbol

    def __init__(self, heads: Sequence[_Node]) -> None:
        self._heads = tuple(heads)

    @staticmethod
    def __mxpipe_symbol__(
        function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Symbol:
        """A call of a public function with symbols among its arguments, as a symbol."""
        module = function.__module__.rpartition(".")[2]
        return Symbol._call(f"{module}.{function.__name__}", *args, **kwargs)

    @staticmethod
    def _call(operation: str, *args: Any, **kwargs: Any) -> Symbol:
        for value in (*args, *kwargs.values()):
            _check_plain(operation, value)
        kind = operation.rpartition(".")[2].strip("_")
        return Symbol([_Node(_fresh_name(kind), operation, args, kwargs)])

    # -------------------------------------------------------------------------------------------- structure

    @property
    def name(self) -> str | None:
        """Its name; None for a group."""
        return self._heads[0].name if len(self._heads) == 1 else None

    def __repr__(self) -> str:
        names = " ".join(node.name for node in self._heads)
        return f"<Symbol {'group ' if len(self._heads) > 1 else ''}{names}>"

    def __len__(self) -> int:
        return len(self._heads)

    def __iter__(self) -> Iterator[Symbol]:
        """The expressions of a group; without it, Python would ask for items for ever."""
        return iter([Symbol([head]) for head in self._heads])

    def _nodes(self) -> list[_Node]:
        """All nodes, inputs before what uses them."""
        order: list[_Node] = []
        done: set[int] = set()
        stack: list[tuple[_Node, Iterator[_Node]]] = []
        for head in self._heads:
            stack.append((head, head.inputs()))
            while stack:
                node, inputs = stack[-1]
                if id(node) in done:
                    stack.pop()
                    continue
                following = next((item for item in inputs if id(item) not in done), None)
                if following is not None:
                    stack.append((following, following.inputs()))
                else:
                    done.add(id(node))
                    order.append(node)
                    stack.pop()
        return order

    def list_arguments(self) -> list[str]:
        """Names of its variables, in the order in which they are needed."""
        return [node.name for node in self._nodes() if node.operation is None]

    list_inputs = list_arguments

    def list_auxiliary_states(self) -> list[str]:
        """Always empty: running statistics are ordinary variables."""
        return []

    def list_outputs(self) -> list[str]:
        """Names of its outputs."""
        return [f"{node.name}_output" if node.operation else node.name for node in self._heads]

    def get_internals(self) -> Symbol:
        """All its intermediate results as one group."""
        return Symbol(self._nodes())

    # -------------------------------------------------------------------------------------------- evaluation

    def _evaluate(
        self, bindings: Mapping[str, Any], make: Callable[[str, tuple[int, ...]], Array] | None = None
    ) -> list[Any]:
        """Run the expression on arrays, or on traced stand-ins; `make` gives what is Unknown its shape."""
        values: dict[int, Any] = {}
        for node in self._nodes():
            if node.operation is None:
                if node.name not in bindings:
                    raise GraphError(f"[Symbol] every variable must have a value; {node.name} has none.")
                values[id(node)] = bindings[node.name]
            else:
                args = [_substitute(value, values) for value in node.args]
                kwargs = {key: _substitute(value, values) for key, value in node.kwargs.items()}
                function = _operation(node.operation)
                if make is not None:
                    fill_unknown(node.operation, function, args, kwargs, make)
                    _check_known((*args, *kwargs.values()))
                values[id(node)] = function(*args, **kwargs)
        return [values[id(node)] for node in self._heads]

    def _evaluate_flat(self, bindings: Mapping[str, Array]) -> tuple[Array, ...]:
        """The outputs, those of a function with several spread out."""
        flat: list[Array] = []
        for value in self._evaluate(bindings):
            flat += value if isinstance(value, list | tuple) else [value]
        return tuple(flat)

    def eval(self, device: Any = None, **arrays: Array) -> list[Array]:
        """Evaluate op by op.

        Args:
            device: Accepted for programs that name one; there is one device.
            arrays: A value for each variable.
        """
        return list(self._evaluate_flat(arrays))

    def _traced(
        self, shapes: Mapping[str, Sequence[int]], dtypes: Mapping[str, Any]
    ) -> tuple[list[str], Any]:
        names = self.list_arguments()
        variables = {node.name: node for node in self._nodes() if node.operation is None}
        unknown = (set(shapes) | set(dtypes)) - set(names)
        if unknown:
            raise GraphError(f"[Symbol] shapes must be of its variables {names}; got {sorted(unknown)}.")
        kinds = {name: dtypes.get(name, variables[name].dtype or "float32") for name in names}
        known = {name: shapes.get(name, variables[name].shape) for name in names}
        if None in known.values():
            known |= self._parameter_shapes(known, kinds)
        examples = [np.zeros(tuple(known[name] or ()), dtype=kinds[name]) for name in names]
        with autograd.pause(train_mode=autograd.is_training()):
            return names, _native.trace(
                lambda *values: self._evaluate_flat(dict(zip(names, values, strict=True))),
                examples,
                autograd.is_training(),
            )

    def _parameter_shapes(
        self, known: Mapping[str, Sequence[int] | None], kinds: Mapping[str, Any]
    ) -> dict[str, tuple[int, ...]]:
        """Shapes that layers decide for their parameters, found by tracing the expression once."""
        found: dict[str, tuple[int, ...]] = {}

        def run() -> tuple[Array, ...]:
            made: dict[str, Array] = {}

            def make(name: str, shape: tuple[int, ...]) -> Array:
                if name not in made:
                    found[name] = shape
                    made[name] = np.zeros(shape, dtype=kinds[name])
                return made[name]

            bindings = {
                name: Unknown(name) if shape is None else np.zeros(tuple(shape), dtype=kinds[name])
                for name, shape in known.items()
            }
            self._evaluate(bindings, make)
            return ()

        with autograd.pause():
            _native.trace(run, [])
        return found

    def graph(self, dtypes: Mapping[str, Any] | None = None, **shapes: Sequence[int]) -> Any:
        """The typed graph for these shapes; its inputs are in the order of `list_arguments`.

        Args:
            dtypes: Types of variables, float32 (or what `var` said) where none is given.
            shapes: Shapes of variables, where `var` did not say.
        """
        return self._traced(shapes, dtypes or {})[1].graph

    def infer_shape(
        self, **shapes: Sequence[int]
    ) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], list[Any]]:
        """Shapes of variables, of outputs, and (always empty) of auxiliary states."""
        names, traced = self._traced(shapes, {})
        inputs = [tuple(shape) for _, shape, _ in traced.graph.inputs][: len(names)]
        return inputs, [tuple(shape) for _, shape, _ in traced.graph.outputs], []

    def infer_type(
        self, dtypes: Mapping[str, Any] | None = None, **shapes: Sequence[int]
    ) -> tuple[Any, Any, Any]:
        """Types of variables, of outputs, and (always empty) of auxiliary states; ops need the shapes too."""
        names, traced = self._traced(shapes, dtypes or {})
        inputs = [dtype for _, _, dtype in traced.graph.inputs][: len(names)]
        return inputs, [dtype for _, _, dtype in traced.graph.outputs], []

    def bind(
        self,
        device: Any = None,
        args: Mapping[str, Array] | Sequence[Array] = (),
        args_grad: Mapping[str, Array] | None = None,
        grad_req: str | Mapping[str, str] = "null",
    ) -> Executor:
        """An executor that runs the compiled expression on these arrays.

        Args:
            device: Accepted for programs that name one; there is one device.
            args: A value for each variable, by name or in the order of `list_arguments`.
            args_grad: Arrays that receive gradients, by name; makes `grad_req` "write" for them.
            grad_req: "write", "add" or "null", for all variables or by name.
        """
        return Executor(self, args, args_grad, grad_req)

    # ---------------------------------------------------------------------------------------------- operators

    def __getitem__(self, key: Any) -> Symbol:
        """An output of a function with several, or a slice."""
        return Symbol._call("getitem", self, key)

    def __hash__(self) -> int:
        return hash(self._heads)

    def __neg__(self) -> Symbol:
        return Symbol._call("np.negative", self)

    def __abs__(self) -> Symbol:
        return Symbol._call("np.abs", self)

    def reshape(self, *shape: Any) -> Symbol:
        """In another shape."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], list | tuple) else shape
        return Symbol._call("np.reshape", self, tuple(wanted))

    def transpose(self, *axes: int) -> Symbol:
        """With permuted axes, reversed where none are given."""
        return Symbol._call("np.transpose", self, axes or None)

    T = property(transpose)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Symbol:
        """Sum over axes."""
        return Symbol._call("np.sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Symbol:
        """Mean over axes."""
        return Symbol._call("np.mean", self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Symbol:
        """Maximum over axes."""
        return Symbol._call("np.max", self, axis=axis, keepdims=keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Symbol:
        """Minimum over axes."""
        return Symbol._call("np.min", self, axis=axis, keepdims=keepdims)

    # --------------------------------------------------------------------------------------------------- JSON

    def tojson(self) -> str:
        """The expression as JSON text."""
        nodes = self._nodes()
        position = {id(node): number for number, node in enumerate(nodes)}
        return json.dumps(
            {
                "format": "mxpipe-symbol",
                "version": 1,
                "nodes": [_node_to_json(node, position) for node in nodes],
                "heads": [position[id(node)] for node in self._heads],
            },
            indent=1,
        )

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write the expression to a JSON file."""
        with open(fname, "w", encoding="utf-8") as file:
            file.write(self.tojson())


def _add_operators() -> None:
    binary = {
        "add": "add",
        "sub": "subtract",
        "mul": "multiply",
        "truediv": "divide",
        "floordiv": "floor_divide",
        "mod": "mod",
        "pow": "power",
        "matmul": "matmul",
    }
    compare = {
        "lt": "less",
        "le": "less_equal",
        "gt": "greater",
        "ge": "greater_equal",
        "eq": "equal",
        "ne": "not_equal",
    }
    for method, function in (binary | compare).items():
        operation = f"np.{function}"
        setattr(Symbol, f"__{method}__", lambda self, other, call=operation: Symbol._call(call, self, other))
        if method in binary:
            setattr(
                Symbol, f"__r{method}__", lambda self, other, call=operation: Symbol._call(call, other, self)
            )


_add_operators()


def var(name: str, shape: Sequence[int] | None = None, dtype: Any = None) -> Symbol:
    """A variable.

    Args:
        name: Its name.
        shape: Its shape, if it is to be known from the start.
        dtype: Its type; float32 where None.
    """
    if not isinstance(name, str) or not name:
        raise GraphError(f"[var] a name must be text that is not empty; got {name!r}.")
    kind = None if dtype is None else dtype if isinstance(dtype, str) else numpy.dtype(dtype).name
    return Symbol([_Node(name, shape=None if shape is None else tuple(shape), dtype=kind)])


Variable = var


def Group(symbols: Sequence[Symbol]) -> Symbol:  # noqa: N802 - MXNet's name
    """Several expressions as one, with all their outputs."""
    return Symbol([node for symbol in symbols for node in symbol._heads])


def load_json(json_str: str) -> Symbol:
    """Read what `tojson` wrote.

    Raises:
        ModelFormatError: The text is something else, or calls what is no function of `mx.np` or `mx.npx`.
    """
    try:
        content = json.loads(json_str)
        if content.get("format") != "mxpipe-symbol" or content.get("version") != 1:
            raise ModelFormatError(
                f"[symbol] format must be mxpipe-symbol version 1; got {content.get('format')!r}."
            )
        nodes: list[_Node] = []
        for number, entry in enumerate(content["nodes"]):
            nodes.append(_node_from_json(entry, number, nodes))
        return Symbol([nodes[_index(number, len(nodes))] for number in content["heads"]])
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, ModelFormatError):
            raise
        raise ModelFormatError(f"[symbol] the JSON must describe a symbol; got {error!r}.") from error


def load(fname: str | os.PathLike[str]) -> Symbol:
    """Read a JSON file that `Symbol.save` wrote."""
    with open(fname, encoding="utf-8") as file:
        return load_json(file.read())


# ------------------------------------------------------------------------------------------------------
# details


def _operation(name: str) -> Callable[..., Any]:
    """The public function of this name; nothing else can be reached."""
    if name == "getitem":
        return lambda value, key: value[key]
    module, _, function = name.partition(".")
    if module in _MODULES and function in _MODULES[module].__all__:
        found = getattr(_MODULES[module], function)
        if callable(found) and not isinstance(found, type):
            return found  # type: ignore[no-any-return]
    raise ModelFormatError(f"[symbol] an operation must be a function of mx.np or mx.npx; got {name!r}.")


def _check_plain(operation: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _check_plain(operation, item)
    elif isinstance(value, Array | numpy.ndarray):
        raise GraphError(
            f"[{operation}] beside symbols there must be symbols and numbers; got an array: use var."
        )


def _check_known(values: Sequence[Any]) -> None:
    for value in values:
        if isinstance(value, Unknown):
            raise GraphError(f"[Symbol] every variable must have a shape; {value.name} has none.")
        if isinstance(value, list | tuple):
            _check_known(value)


def _substitute(value: Any, values: Mapping[int, Any]) -> Any:
    if isinstance(value, Symbol):
        found = [values[id(node)] for node in value._heads]
        return found[0] if len(found) == 1 else found
    if isinstance(value, list | tuple):
        return type(value)(_substitute(item, values) for item in value)
    return value


def _node_to_json(node: _Node, position: Mapping[int, int]) -> dict[str, Any]:
    if node.operation is None:
        return {"name": node.name, "shape": node.shape, "dtype": node.dtype}
    return {
        "name": node.name,
        "op": node.operation,
        "args": [_to_json(value, position) for value in node.args],
        "kwargs": {key: _to_json(value, position) for key, value in node.kwargs.items()},
    }


def _to_json(value: Any, position: Mapping[int, int]) -> Any:
    if isinstance(value, Symbol):
        return {"nodes": [position[id(node)] for node in value._heads]}
    if isinstance(value, slice):
        return {"slice": [value.start, value.stop, value.step]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_to_json(item, position) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, numpy.generic):
        return value.item()
    try:
        return numpy.dtype(value).name
    except TypeError:
        raise GraphError(f"[symbol] arguments must be plain values to be written; got {value!r}.") from None


def _index(number: Any, bound: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < bound:
        raise ModelFormatError(
            f"[symbol] a reference must be to an earlier node (of {bound}); got {number!r}."
        )
    return number


def _node_from_json(entry: Mapping[str, Any], number: int, nodes: list[_Node]) -> _Node:
    if "op" not in entry:
        shape = entry["shape"]
        return _Node(str(entry["name"]), shape=None if shape is None else tuple(shape), dtype=entry["dtype"])
    _operation(entry["op"])
    args = tuple(_from_json(value, nodes) for value in entry["args"])
    kwargs = {str(key): _from_json(value, nodes) for key, value in entry["kwargs"].items()}
    return _Node(str(entry["name"]), entry["op"], args, kwargs)


def _from_json(value: Any, nodes: list[_Node]) -> Any:
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ModelFormatError(f"[symbol] a list must be marked list or tuple; got {value!r}.")
        return value
    (kind, content), *rest = value.items()
    if rest:
        raise ModelFormatError(f"[symbol] an argument must have one field; got {sorted(value)}.")
    if kind == "nodes":
        return Symbol([nodes[_index(number, len(nodes))] for number in content])
    if kind in ("list", "tuple"):
        items = [_from_json(item, nodes) for item in content]
        return items if kind == "list" else tuple(items)
    if kind == "slice":
        return slice(*content)
    if kind == "ellipsis":
        return Ellipsis
    raise ModelFormatError(f"[symbol] an argument must be nodes, list, tuple, slice or plain; got {kind!r}.")
