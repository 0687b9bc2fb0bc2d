# `make reproduce` and `make test` need Python 3.11 or newer, make and git; they install everything else into .venv.
PYTHON ?= python3
BIN := .venv/bin
CONFIG := $(if $(TIER),--config tier=$(TIER))

.PHONY: reproduce test test-slurm lint install audit plan clean

reproduce: install
	$(BIN)/snakemake --cores all --workflow-profile workflow/profiles/default $(CONFIG)
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
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is %d.%d" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

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
