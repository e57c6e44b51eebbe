# Two commands are enough: `make demo` shows a call, `make test` proves the rest. Both build .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo serve compiled test check bench format clean install

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Voicegate needs Python 3.11 or later: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (half a minute) ..."
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable .
	@touch $@

demo: $(STAMP)
	@$(BIN)/voicegate demo

serve: $(STAMP)
	@$(BIN)/voicegate serve

# What runs for every packet, as machine code: PYTHONPATH=build/compiled .venv/bin/voicegate serve
compiled: $(STAMP)
	@rm -rf build/compiled && mkdir -p build/compiled && cp -R app media flows build/compiled
	@$(BIN)/python docker/compile.py build/compiled

test: $(STAMP)
	@$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

check: $(STAMP)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(STAMP)
	@$(BIN)/python -m tests.bench

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/ruff format --quiet .

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
