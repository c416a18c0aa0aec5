#!/usr/bin/env bash
# The benchmarks, with PyTorch in an environment of its own: no other target installs it.
set -euo pipefail
cd "$(dirname "$0")/.."
PEER=build/bench/venv
if [ ! -x "$PEER/bin/python" ]; then
  "${PYTHON:-python3}" -m venv "$PEER"
  "$PEER/bin/python" -m pip install --quiet --disable-pip-version-check torch==2.13.0 numpy
fi
"$VENV/bin/python" -m benchmarks --torch "$PEER/bin/python" "$@"
"$VENV/bin/python" -m benchmarks.loader
