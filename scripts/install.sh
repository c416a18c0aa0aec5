#!/usr/bin/env bash
# Installs mxpipe with every extra that its tests and its main job use into $VENV, from constraints.txt.
# uv does it in seconds and is put into $VENV if the machine has none; where it cannot be had, pip does.
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
EXTRAS=${EXTRAS:-demo,dev}
PYTHON=${PYTHON:-python3}

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  { echo "[install] Python 3.11 or newer must be used; got $("$PYTHON" --version). Set PYTHON." >&2; exit 1; }
command -v "${CXX:-g++}" >/dev/null ||
  { echo "[install] a C++20 compiler must be on PATH; got none. Debian: apt install g++." >&2; exit 1; }

"$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
  { echo "[install] Python's headers must be installed; got none. Debian: apt install python3-dev." >&2; exit 1; }

# USE_PIP=1 does without uv.
UV=$([ -n "${USE_PIP:-}" ] || command -v uv || true)
if [ ! -x "$VENV/bin/python" ]; then
  if [ -n "$UV" ]; then
    "$UV" venv --quiet --python "$PYTHON" --seed "$VENV"
  else
    "$PYTHON" -m venv "$VENV" ||
      { echo "[install] the venv module must work. Debian: apt install python3-venv." >&2; exit 1; }
  fi
fi
if [ -z "$UV" ] && [ ! -x "$VENV/bin/uv" ] && [ -z "${USE_PIP:-}" ]; then
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt uv ||
    echo "[install] uv is not to be had; pip goes on, slower." >&2
fi
[ -n "$UV" ] || UV=$VENV/bin/uv
if [ -x "$UV" ] && [ -z "${USE_PIP:-}" ]; then
  install() { "$UV" pip install --quiet --python "$VENV/bin/python" -c constraints.txt "$@"; }
else
  install() { "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt "$@"; }
fi

# ccache makes a second build of the same sources nearly free.
if command -v ccache >/dev/null; then
  export CMAKE_C_COMPILER_LAUNCHER=ccache CMAKE_CXX_COMPILER_LAUNCHER=ccache
fi
export CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-2}

# The build runs in this environment, not in an isolated copy: what it needs is installed once, and the
# build folder stays valid, so that a change of one source compiles one source.
mapfile -t REQUIREMENTS < <("$VENV/bin/python" scripts/requirements.py "$EXTRAS")
install "${REQUIREMENTS[@]}"
PATH="$PWD/$VENV/bin:$PATH" install --no-build-isolation --no-deps -e .
