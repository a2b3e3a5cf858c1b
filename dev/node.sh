#!/usr/bin/env bash
# Runs a command with Node 20 or newer: the system's, else one from a wheel, installed into .venv at the first need.
set -euo pipefail
cd "$(dirname "$0")/.."

good_enough() { command -v npm >/dev/null && node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' 2>/dev/null; }

if ! good_enough; then
  PATH="$PWD/.venv/bin:$PATH"
  if ! good_enough; then
    echo "· Node (from a wheel, as this machine has none from 20 on)"
    if command -v uv >/dev/null; then
      uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements-node.txt
    else
      .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements-node.txt
    fi
    hash -r
  fi
fi
export NPM_CONFIG_UPDATE_NOTIFIER=false NPM_CONFIG_FUND=false NPM_CONFIG_AUDIT=false
exec "$@"
