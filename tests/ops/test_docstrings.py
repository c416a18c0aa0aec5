"""Every public function and every op is documented, and the examples in the documentation are true."""

from __future__ import annotations

import doctest
import inspect
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import mxpipe as mx
from mxpipe import _native

SCHEMAS = {schema["name"]: schema for schema in _native.op_schemas()}
GLOBALS = {"mx": mx, "np": mx.np, "npx": mx.npx, "_native": _native}
PACKAGES = ("mxpipe.np", "mxpipe.npx")
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")


class Checker(doctest.OutputChecker):
    """Takes floats that are nearly equal, because instruction sets round the last digit differently."""

    def check_output(self, want: str, got: str, flags: int) -> bool:
        expected, printed = NUMBER.findall(want), NUMBER.findall(got)
        text = ["".join(NUMBER.sub("#", part).split()) for part in (want, got)]
        close = (
            math.isclose(float(a), float(b), rel_tol=1e-5) for a, b in zip(expected, printed, strict=False)
        )
        return text[0] == text[1] and len(expected) == len(printed) and all(close)


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    seen: set[int] = set()
    for module in (mx.np, mx.np.random, mx.npx, mx.npx.random):
        for name in module.__all__:
            member = getattr(module, name)
            if (
                inspect.isfunction(member)
                and member.__module__.startswith(PACKAGES)
                and id(member) not in seen
            ):
                seen.add(id(member))
                yield f"{module.__name__}.{name}", member


FUNCTIONS = dict(public_functions())


def run_examples(name: str, text: str) -> int:
    test = doctest.DocTestParser().get_doctest(text, dict(GLOBALS), name, name, 0)
    report: list[str] = []
    result = doctest.DocTestRunner(Checker()).run(test, out=report.append)
    assert result.failed == 0, "".join(report)
    return result.attempted


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_documented_by_true_examples(name: str) -> None:
    text = FUNCTIONS[name].__doc__ or ""
    summary = text.strip().splitlines()[0] if text.strip() else ""
    assert summary.endswith("."), f"{name} must have a summary sentence; got {summary!r}."
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert not parameters or "Args:" in text, f"{name} must describe its arguments."
    assert run_examples(name, text) > 0, f"{name} must have an example."


@pytest.mark.parametrize("op", SCHEMAS)
def test_ops_are_documented_by_true_examples(op: str) -> None:
    schema = SCHEMAS[op]
    assert schema["doc"].strip(), f"{op} must have documentation."
    for part in (*schema["inputs"], *schema["attributes"]):
        assert part["doc"], f"{op}: {part['name']} must have documentation."
    assert run_examples(op, schema["doc"]) > 0, f"{op} must have an example."
