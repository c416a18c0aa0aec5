"""The examples of batch prediction, and of the files and arrangements below it, are true."""

from __future__ import annotations

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    ["mxpipe.batch.values", "mxpipe.data.arrange", "mxpipe.data.files", "mxpipe.data.snapshot"],
)
def test_examples_are_true(name: str):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
