# make demo: set up, then restore real photographs and show what came of it.   make test: set up, then every test.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test lint build completions manual clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py --output demo

test: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

build: $(VENV)/.test
	rm -rf dist
	$(BIN)/python -m build --outdir dist

completions: $(VENV)/.test
	$(BIN)/python -m sanarestore.cli.completions completions

manual: $(VENV)/.test
	$(BIN)/python -m sanarestore.cli.manual man

# One marker a set of extras: pip runs again only when what it would install has changed.
$(VENV)/.%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$*]'
	touch $@

clean:
	rm -rf $(VENV) dist demo
