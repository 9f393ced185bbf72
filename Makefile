# Every target makes its own environment in .venv; PYTHON names the interpreter it is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test nightly fuzz test-pipelines mutants bench lint types clean

demo: $(VENV)/run.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH" examples/card/demo.sh

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 $(PYTEST)

# All that there is to try, for hours: every random example, every dtype, and the tests marked `nightly`.
nightly: $(VENV)/dev.stamp
	STATEX_NIGHTLY=1 $(BIN)/python -m pytest -n 2 $(PYTEST)

# Random pickles, for ten minutes (FUZZ=30 for thirty).
fuzz: $(VENV)/dev.stamp
	$(BIN)/python -m tests.checkpoint.fuzz $(FUZZ)

# The tools that the example of a pipeline runs under; they bring some eighty packages, so `make test` does without.
test-pipelines: $(VENV)/pipelines.stamp
	$(BIN)/python -m pytest examples/pipeline $(PYTEST)

# An hour on one core for 200 changes, after a quarter of one for the record: what no test notices is printed at the end.
mutants: $(VENV)/mutants.stamp
	$(BIN)/python tools/mutants.py $(MUTANTS)

bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/run.py $(BENCH)

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	$(BIN)/mypy

clean:
	rm -rf $(VENV)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch comes first: with the constrained build installed, nothing after it looks for another.
$(VENV)/torch.stamp: constraints.txt | $(BIN)/python
	$(PIP) torch==2.13.0
	touch $@

$(VENV)/run.stamp: pyproject.toml $(VENV)/torch.stamp
	$(PIP) -e .
	touch $@

$(VENV)/dev.stamp: pyproject.toml $(VENV)/torch.stamp
	$(PIP) -e '.[dev,companions]'
	touch $@

$(VENV)/pipelines.stamp: $(VENV)/dev.stamp
	$(PIP) -e '.[pipelines]'
	touch $@

$(VENV)/mutants.stamp: $(VENV)/dev.stamp
	$(PIP) -e '.[mutants]'
	touch $@
