#!/usr/bin/env bash
# Makes .venv from the hashed lock, with uv where there is one (5 s), else with venv and pip (35 s).
# An environment that works is kept and brought up to date; PY=/path/to/python chooses the interpreter of a new one.
set -euo pipefail
cd "$(dirname "$0")/.."
lock=requirements-dev.txt

usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

find_python() {
  if [ -n "${PY:-}" ]; then
    usable "$PY" && { echo "$PY"; return; }
    echo "PY=$PY is no Python from 3.11 to 3.13." >&2
    exit 1
  fi
  local candidate
  for candidate in python3.11 python3.12 python3.13 python3; do
    usable "$candidate" && { echo "$candidate"; return; }
  done
  echo "No Python from 3.11 to 3.13 was found. On Debian: apt-get install python3 python3-venv. Elsewhere: make PY=/path/to/python3.11 …" >&2
  exit 1
}

echo "· Python environment (.venv)"
if command -v uv >/dev/null; then
  if ! usable .venv/bin/python; then
    python=$(find_python)
    uv venv --quiet --clear --python "$python" .venv
  fi
  uv pip install --quiet --python .venv/bin/python --require-hashes -r "$lock"
else
  if ! usable .venv/bin/python; then
    python=$(find_python)
    "$python" -m venv --clear .venv
  fi
  .venv/bin/python -c 'import pip' 2>/dev/null || .venv/bin/python -m ensurepip >/dev/null # one that uv made has none
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r "$lock"
fi
