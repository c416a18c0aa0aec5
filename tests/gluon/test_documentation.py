"""The examples in the documentation run, and every public thing has a text."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import mxpipe as mx

MODULES = [
    "mxpipe.autograd",
    "mxpipe.device",
    "mxpipe.initializer",
    "mxpipe.lr_scheduler",
    "mxpipe.random",
    "mxpipe.sparse",
    "mxpipe.symbol",
    "mxpipe.testing",
    "mxpipe.train.bootstrap",
    "mxpipe.train.evaluation",
    "mxpipe.train.gate",
    "mxpipe.train.metrics",
    "mxpipe.train.tasks",
    *(
        module.name
        for package in (mx.gluon, mx.optimizer)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


@pytest.mark.parametrize("name", MODULES)
def test_public_things_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    for public in module.__all__ if hasattr(module, "__all__") else ():
        value = getattr(module, public)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"{name}.{public}"
