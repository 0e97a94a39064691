# Two entrances: `make demo` and `make test`. Both set up their own .venv; nothing else needs to be installed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint types imports docs-test bench-smoke conformance clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $(STAMP)

## Run the reference fan-out: 10 virtual minutes of call analytics through a surge with a broker failure.
demo: $(STAMP)
	$(BIN)/kafkasim run examples/call_analytics/design.toml

## All tests that need no Java.
test: $(STAMP)
	KAFKASIM_FREEZE=1 $(BIN)/python -m pytest -q

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports --no-cache

bench-smoke: $(STAMP)
	$(BIN)/python -m benchmarks.smoke

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
