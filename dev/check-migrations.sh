#!/usr/bin/env bash
# Builds an empty SQLite database by the migrations and asks Alembic whether the models want anything else.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PORTAL_ENV=development PORTAL_INSTANCE_DIR="$folder" DATABASE_URL="sqlite:///$folder/check.db"
for step in upgrade check; do
  if ! .venv/bin/flask --app wsgi db "$step" >"$folder/log" 2>&1; then
    cat "$folder/log" >&2
    exit 1
  fi
done
