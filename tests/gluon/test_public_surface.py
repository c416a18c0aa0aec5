"""The public names of mxpipe, and what importing it loads."""

from __future__ import annotations

import json
import subprocess
import sys

import mxpipe as mx

PUBLIC = [
    "Device",
    "MxpipeError",
    "__version__",
    "amp",
    "autograd",
    "cpu",
    "data",
    "errors",
    "get_num_threads",
    "gluon",
    "init",
    "initializer",
    "inspection",
    "jobs",
    "lr_scheduler",
    "model",
    "np",
    "npx",
    "num_gpus",
    "optimizer",
    "random",
    "serve",
    "set_num_threads",
    "sparse",
    "sym",
    "symbol",
    "testing",
    "train",
    "viz",
]


def test_names_are_pinned():
    assert sorted(mx.__all__) == PUBLIC
    assert dir(mx) == PUBLIC


def test_every_exported_name_exists_in_the_engine():
    for module in (
        mx.amp,
        mx.autograd,
        mx.gluon,
        mx.gluon.loss,
        mx.gluon.metric,
        mx.gluon.model_zoo,
        mx.gluon.nn,
        mx.gluon.utils,
        mx.init,
        mx.lr_scheduler,
        mx.np,
        mx.npx,
        mx.optimizer,
        mx.random,
        mx.sparse,
        mx.sym,
        mx.testing,
    ):
        assert module.__all__, module
        assert all(hasattr(module, name) for name in module.__all__), module
        assert module.__doc__, module


def test_import_loads_numpy_and_the_standard_library_only():
    code = (
        "import sys; before = set(sys.modules); import mxpipe; "  # Debian's Python loads a sitecustomize
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "import json; print(json.dumps(sorted(roots - set(sys.stdlib_module_names) - {'numpy', 'mxpipe'})))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = [name for name in json.loads(result.stdout) if not name.startswith("_")]
    assert foreign == []


def test_version_is_the_distribution_version():
    from importlib.metadata import version

    assert mx.__version__ == version("mxpipe")


def test_aliases():
    assert mx.init is mx.initializer
    assert mx.sym is mx.symbol
    assert repr(mx.cpu()) == "cpu(0)"
    assert mx.num_gpus() == 0


def test_importing_the_package_loads_neither_numpy_nor_the_core() -> None:
    """An orchestrator that reads a pipeline's definition pays for nothing that it does not use."""
    script = (
        "import sys, mxpipe.errors\n"
        "print([name for name in ('numpy', 'mxpipe._core', 'pyarrow') if name in sys.modules])\n"
        "assert mxpipe.init is mxpipe.initializer and mxpipe.sym is mxpipe.symbol\n"
        "missing = [name for name in mxpipe.__all__ if not hasattr(mxpipe, name)]\n"
        "print(missing, mxpipe.np.ones(2).sum())\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[:1] == ["[]"]
    assert run.stdout.splitlines()[1].startswith("[] ")
