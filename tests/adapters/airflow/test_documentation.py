"""Every public class and function of the provider is documented, and its examples are true."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest

import mxpipe_airflow

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(mxpipe_airflow.__path__, "mxpipe_airflow.")
    if not module.name.rpartition(".")[2].startswith("_")
)


USED_IN_DAGS = ("decorators", "hooks", "notifications", "operators", "sensors", "triggers")


def public(module: Any) -> Iterator[tuple[str, Any]]:
    for name, member in vars(module).items():
        is_ours = getattr(member, "__module__", None) == module.__name__
        if is_ours and not name.startswith("_") and (inspect.isclass(member) or inspect.isfunction(member)):
            yield name, member


@pytest.mark.usefixtures("airflow_database")
@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    module = importlib.import_module(name)
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        result = doctest.DocTestRunner(optionflags=flags).run(test, out=report.append)
        assert result.failed == 0, "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__
    for member_name, member in public(module):
        text = inspect.getdoc(member) or ""
        assert text.splitlines()[0].endswith("."), f"{name}.{member_name} must have a summary sentence"
        is_used = inspect.isclass(member) and not inspect.isabstract(member)
        if is_used and name.split(".")[1] in USED_IN_DAGS:
            assert "Example:" in text, f"{name}.{member_name} must have an example"
