"""mxpipe/_core.pyi says what the native module has."""

from __future__ import annotations

import ast

from cases import ROWS
from rows import FLOATS, draw

from mxpipe import _native, _stubs

STUB = _stubs.STUB.read_text()


def members(body: list[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign):
            names.add(ast.unparse(node.target))
        elif isinstance(node, ast.Assign):
            names.update(ast.unparse(target) for target in node.targets)
    return names


def test_the_names_of_the_ops_are_those_of_the_registry() -> None:
    assert _stubs.render(STUB) == STUB, "run: python -m mxpipe._stubs"


def test_ops_of_several_results_are_known() -> None:
    several = set()
    for row in ROWS:
        variant = row.variants[0]
        dtype = next(name for name in row.dtypes if name in FLOATS)
        if isinstance(_native.invoke(row.op, draw(variant, dtype), variant.attributes), tuple):
            several.add(row.op)
    assert several == set(_stubs.SEVERAL)


def test_every_member_is_typed() -> None:
    tree = ast.parse(STUB)
    core = {name for name in _native.__all__ if not name.startswith("_")}
    assert core <= members(tree.body)
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bound = {name for name in vars(getattr(_native, node.name)) if not name.startswith("_")}
            assert bound <= members(node.body), node.name
