# Two entrances: `make demo` and `make test`. Both set up their own .venv; nothing else needs to be installed beforehand.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
KAFKA_LIBS := .kafka/libs

.PHONY: demo test night lint types imports pages docs bench-smoke conformance clean

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
	KAFKASIM_FREEZE=1 $(BIN)/python -m pytest -q -m "not real and not browser"
	@echo "left out: what needs a real Kafka (make conformance) or a browser (make pages)"

## The search for broken promises of replication that CI does briefly, 10,000 examples of it.
night: $(STAMP)
	KAFKASIM_EXAMPLES=10000 KAFKASIM_FREEZE=1 $(BIN)/python -m pytest -q tests/machines/test_replication_machine.py

lint: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

imports: $(STAMP)
	$(BIN)/lint-imports --no-cache

bench-smoke: $(STAMP)
	$(BIN)/python -m benchmarks.smoke

$(VENV)/.installed-browser: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[dev,browser]"
	@touch $@

## The pages of runs in a headless Chromium: they open from disk, zoom and answer clicks. Screenshots land in build/pages.
## Uses the system's Chromium (or Chrome); KAFKASIM_CHROMIUM names another.
pages: $(VENV)/.installed-browser
	$(BIN)/python -m pytest -q -m browser

$(VENV)/.installed-docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	@touch $@

## The documentation site, its notebooks executed; a warning is an error. Opens from build/site/index.html.
docs: $(VENV)/.installed-docs
	$(BIN)/sphinx-build -n -W --keep-going -T -q docs build/site

## The conformance suite on real Kafka and on the simulator, and what else needs brokers. Needs Java 17 and Maven.
## The jars of Kafka 4.3.0 are fetched once; where the environment already names a folder of jars, that is used.
conformance: export KAFKASIM_KAFKA_LIBS ?= $(CURDIR)/$(KAFKA_LIBS)
conformance: $(STAMP) $(if $(KAFKASIM_KAFKA_LIBS),,$(KAFKA_LIBS)/.fetched)
	$(BIN)/kafkasim conform --document docs/conformance.md
	$(BIN)/python -m pytest -q -m real

$(KAFKA_LIBS)/.fetched: tests/real/pom.xml
	rm -rf $(KAFKA_LIBS)
	mvn --batch-mode --quiet -f tests/real/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/$(KAFKA_LIBS)
	@touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
