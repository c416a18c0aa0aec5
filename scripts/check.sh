#!/usr/bin/env bash
# Everything that `make check` looks at, each on its own, so that one failure does not hide the next.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
check() {
  local name=$1
  shift
  if output=$("$@" 2>&1); then
    printf '  ok      %s\n' "$name"
  else
    failed+=("$name")
    printf '%s\n  FAILED  %s\n' "$output" "$name"
  fi
}
existing() { for path in "$@"; do [ -e "$path" ] && printf '%s\n' "$path"; done; }
mapfile -t python < <(existing mxpipe operators integrations dags scripts tests benchmarks)
mapfile -t native < <(git ls-files 'native/*.cpp' 'native/*.hpp' 'tests/native/*.cpp')

check "ruff: lint" ruff check --quiet "${python[@]}"
check "ruff: format" ruff format --quiet --check "${python[@]}"
check "mypy: strict types" mypy
check "import-linter: who may know whom in Python" lint-imports
check "layers: who may include whom in C++, and files that can be read in one sitting" python scripts/check_house.py
[ "${#native[@]}" -eq 0 ] || check "clang-format" clang-format --dry-run -Werror "${native[@]}"

if [ "${#failed[@]}" -gt 0 ]; then
  printf 'make check: %d failed: %s\n' "${#failed[@]}" "$(IFS=';'; echo "${failed[*]}")" >&2
  exit 1
fi
echo "make check: all good"
