# `make reproduce` and `make test` need Python 3.11 to 3.13, make and git; they install everything else into .venv.
PYTHON ?= python3
BIN := .venv/bin
CONFIG := $(if $(TIER),--config tier=$(TIER))

.PHONY: reproduce test test-slurm lint install lock audit plan clean

reproduce: install
	$(BIN)/snakemake --cores all --workflow-profile workflow/profiles/default --logger rich $(CONFIG)
	@$(BIN)/irepa where $(if $(TIER),--tier $(TIER))

test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest -n 2 --dist loadfile

# Needs root, and Debian's slurm-wlm and munge.
test-slurm: install
	tests/slurm/run.sh $(BIN)

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed (Snakemake has no ready-made packages for 3.14 yet), this is %d.%d: make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Installing into .venv, once: 270 packages, 7 GB, three to five minutes. Later runs do nothing here."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# Resolves pyproject.toml anew in an environment of its own, and says what would be compiled on each Python.
lock:
	rm -rf .lock
	$(PYTHON) -m venv .lock
	.lock/bin/pip install --quiet '.[pipeline,dev]'
	.lock/bin/python tools/lock.py
	rm -rf .lock build

audit: install
	$(BIN)/irepa audit --published

plan: install
	$(BIN)/irepa plan $(if $(TIER),--tier $(TIER))

lint: install
	$(BIN)/snakemake --lint

clean:
	rm -rf .venv .snakemake results

docs/rulegraph.svg: workflow/Snakefile $(wildcard workflow/rules/*.smk) src/irepa/pipeline/graph.py
	$(BIN)/snakemake --rulegraph | dot -Tsvg > $@
