#!/usr/bin/env bash
# The benchmarks: bench.sh {full|quick|compare} [arguments of python -m benchmarks]. The peers live in
# environments of their own below build/bench: no other target installs them. One that cannot be installed is
# left out of the table.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=$1
shift
folder=${BENCH_VENVS:-build/bench}

peer() {  # peer NAME REQUIREMENT...: an environment of that name, made once
  local venv=$folder/$1
  shift
  [ -e "$venv/ready" ] || [ -n "${BENCH_VENVS:-}" ] && return
  echo "installing ${1%%=*} for comparison into $venv"
  "${PYTHON:-python3}" -m venv "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@" &&
    touch "$venv/ready" || rm -rf "$venv"
}

peer torch torch==2.13.0 numpy
peer openvino openvino==2026.4.1 onnx==1.23.2
peer onnxruntime onnxruntime==1.31.1 onnx==1.23.2
[ "$mode" != full ] || peer jax jax==0.10.2 jaxlib==0.10.2
case $mode in
  full) "$VENV/bin/python" -m benchmarks "$@" && "$VENV/bin/python" -m benchmarks.loader ;;
  quick) "$VENV/bin/python" -m benchmarks --quick "$@" ;;
  compare) "$VENV/bin/python" -m benchmarks --quick --compare "$@" ;;
  *) echo "bench.sh {full|quick|compare}" >&2 && exit 2 ;;
esac
