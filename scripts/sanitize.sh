#!/usr/bin/env bash
# Builds the native tests under a sanitizer ($1: "address,undefined" or "thread") and runs them.
set -euo pipefail
cd "$(dirname "$0")/.."
sanitizer=${1:?a sanitizer must be named: address,undefined or thread}
folder=build/${sanitizer//,/-}
export PATH="$PWD/${VENV:-.venv}/bin:$PATH"
cmake -S native -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DMXPIPE_BUILD_TESTS=ON \
  -DMXPIPE_SANITIZE="$sanitizer" -DPython_EXECUTABLE="$(command -v python)"
cmake --build "$folder" --parallel "${JOBS:-2}"
ctest --test-dir "$folder" --output-on-failure
