# make run    set up what is missing and start the daemon on sample photographs, or on IMAGES_DIR=…
# make test   install everything and pass the tests
# make check  what a developer runs before each commit

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
SAMPLES := var/samples
WIRE   := var/wire
HAS_UV := $(shell command -v uv 2>/dev/null)

.DEFAULT_GOAL := help
.PHONY: help run model run-platform test check lint nightly soak wire bench lock audit clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: $(VENV)/run.stamp $(if $(IMAGES_DIR),,$(SAMPLES)/.filled)  ## Start the daemon; IMAGES_DIR=~/Pictures for your own pictures.
	IMAGES_DIR="$(or $(IMAGES_DIR),$(SAMPLES))" exec $(BIN)/python -m daemon run

model: $(VENV)/all.stamp  ## Fetch a local CLIP, 600 MB, once; the next start uses it.
	$(BIN)/python -m daemon model fetch

run-platform: $(VENV)/dev.stamp  ## Start an emulated Supervisely platform and the daemon against it.
	$(BIN)/python -m tests.platform_emulator --run

# Three at a time even on two cores: some wait more than they work.
test: $(VENV)/dev.stamp  ## Install everything and pass the tests.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check: lint test  ## What a developer runs: style, types, import rules, tests.

lint: $(VENV)/dev.stamp  ## Style, types and import rules.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

nightly: $(VENV)/dev.stamp  ## The long versions of the tests.
	$(BIN)/python -m pytest -m nightly

soak: $(VENV)/dev.stamp  ## Ten minutes of work with faults on, watching what the daemon holds; SOAK='--minutes 60' for more.
	$(BIN)/python -m tests.soak $(SOAK)

wire: $(VENV)/dev.stamp  ## The CLIP transports against a real Jina gateway, whose answers are recorded.
	$(MAKE) --no-print-directory VENV=$(WIRE) $(WIRE)/wire.stamp
	WIRE_PYTHON=$(WIRE)/bin/python $(BIN)/python tests/wire/wire_record.py
	WIRE_PYTHON=$(WIRE)/bin/python $(BIN)/python -m pytest tests/wire

bench: $(VENV)/dev.stamp  ## Measure everything that docs/performance.md claims.
	$(BIN)/python -m benchmarks

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock'

lock:  ## Resolve the dependencies anew (needs uv).
	$(COMPILE) --upgrade pyproject.toml --all-extras --group dev -o requirements/dev.lock
	$(COMPILE) --upgrade pyproject.toml --all-extras -c requirements/dev.lock -o requirements/all.lock
	$(COMPILE) --upgrade pyproject.toml -c requirements/all.lock -o requirements/run.lock
	$(COMPILE) --upgrade --no-deps requirements/samples.in -c requirements/all.lock -o requirements/samples.lock
	$(COMPILE) --upgrade requirements/wire.in -o requirements/wire.lock

audit: $(VENV)/dev.stamp  ## Look for known vulnerabilities (needs the internet).
	$(BIN)/python -m pip_audit --require-hashes --disable-pip -r requirements/all.lock

clean:  ## Remove what was set up here; the state directory stays.
	rm -rf $(VENV) var .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "embedsync needs Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 …" >&2; exit 1; }
ifdef HAS_UV
	uv venv --quiet --python "$$(command -v $(PYTHON))" $(VENV)
else
	$(PYTHON) -m venv $(VENV)
endif

$(VENV)/%.stamp: requirements/%.lock | $(VENV)/bin/python
ifdef HAS_UV
	uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r $<
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
endif
	@touch $@

$(SAMPLES)/.filled: $(VENV)/run.stamp $(VENV)/samples.stamp
	$(BIN)/python -m daemon samples $(SAMPLES)
	@touch $@
