# LLM Portal. Everything a target needs is set up on demand, once; a second run of any target but `services` needs no
# network. `make` alone lists the targets. PY= chooses the Python (3.11 to 3.13), ARGS= is handed on to test and bench.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

export PY
PYTHON := .venv/bin/python
# Test files run side by side; most of their time is waiting. 0: one after the other, in one process.
JOBS ?= 2
VENV := .venv/.ready
MODEL := .venv/.model
NODE_MODULES := node_modules/.ready
FRONT := portal/static/dist/manifest.json
CATALOGUES := $(wildcard portal/translations/*/LC_MESSAGES/messages.po)
COMPILED := $(CATALOGUES:.po=.mo)
FRONT_SOURCES := package.json $(shell find portal/static/src portal/templates 2>/dev/null)

.PHONY: help run test clients check services bench dist clean setup format translations \
        check-format check-lint check-types check-imports check-translations check-migrations

help:
	@echo "make run        the whole product on http://127.0.0.1:8000 (PORT=, SANDBOX_PORT=); Ctrl-C stops it"
	@echo "make test       the tests (ARGS='-k payment -x', JOBS=2 at a time)"
	@echo "make clients    the suites of clients nobody here wrote"
	@echo "make check      format, lint, types, import contracts, translations, migrations"
	@echo "make services   install MariaDB, PostgreSQL, Redis, Chromium (Debian), for the full make test"
	@echo "make bench      the benchmarks, as a table"
	@echo "make dist       a release archive for hosts without a build chain"
	@echo "make format     put the code in order;  make translations  bring the catalogues up to date"
	@echo "make clean      remove what was built and installed here; your data under instance/ stays"

# --- set-up on demand -------------------------------------------------------------------------------------------

setup: $(VENV) $(FRONT) $(COMPILED)

$(VENV): requirements-dev.txt
	@dev/python-environment.sh
	@touch $@

$(MODEL): sandbox/model-requirements.txt | $(VENV)
	@dev/model.sh
	@touch $@

$(NODE_MODULES): package-lock.json | $(VENV)
	@echo "· Front-end packages (node_modules)"
	@dev/node.sh npm ci --silent
	@touch $@

$(FRONT): $(NODE_MODULES) $(FRONT_SOURCES)
	@echo "· Style sheet, script, fonts (portal/static/dist)"
	@dev/node.sh npm run --silent build >/dev/null
	@touch $@

%.mo: %.po | $(VENV)
	@echo "· Translations ($(notdir $(patsubst %/LC_MESSAGES/,%,$(dir $<))))"
	@.venv/bin/pybabel --quiet compile -i $< -o $@

# --- the targets ------------------------------------------------------------------------------------------------

run: setup $(MODEL)
	@exec $(PYTHON) -m dev.run --with-parent

test: setup $(MODEL)
	@$(PYTHON) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

clients: setup $(MODEL)
	@$(PYTHON) tests/clients/run.py $(ARGS)

bench: setup
	@$(PYTHON) -m bench $(ARGS)

services:
	@dev/services.sh

dist: setup
	@dev/dist.sh

format: $(VENV)
	@.venv/bin/ruff check --quiet --fix-only . && .venv/bin/ruff format --quiet .

translations: $(VENV)
	@$(PYTHON) -m dev.translations update

check: check-format check-lint check-types check-imports check-translations check-migrations

check-format: $(VENV)
	@echo "· Format"
	@.venv/bin/ruff format --quiet --check . || { .venv/bin/ruff format --check . | head -40; exit 1; }

check-lint: $(VENV)
	@echo "· Lint"
	@.venv/bin/ruff check --quiet .

check-types: $(VENV)
	@echo "· Types"
	@.venv/bin/mypy --no-error-summary

check-imports: $(VENV)
	@echo "· Who may import whom"
	@.venv/bin/lint-imports --no-logo

check-translations: $(VENV)
	@echo "· Translations"
	@$(PYTHON) -m dev.translations check

check-migrations: $(VENV)
	@echo "· Migrations equal the models"
	@dev/check-migrations.sh

clean:
	@rm -rf .venv node_modules portal/static/dist dist bench/build bench/results test-results $(COMPILED) \
	  .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './instance/*' -prune -exec rm -rf {} +
	@echo "Clean. Your data is untouched: instance/"
