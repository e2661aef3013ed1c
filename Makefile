# `make demo` and `make test` do all of their own set-up on a fresh Debian 12, as root.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup packages lab test demo bench fuzz lint format clean

setup: packages $(VENV)/.made

packages:
	@./tools/packages

$(VENV)/.made: pyproject.toml tools/build_ring.py $(wildcard src/septum/ivc/*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	@# A start pays for what the environment loads by itself (setuptools' .pth) and for modules that are not compiled.
	$(BIN)/pip uninstall --quiet --yes --disable-pip-version-check setuptools
	$(BIN)/python -m compileall -q src
	@touch $@

lab: setup
	$(BIN)/python -m lab build

test: setup lab
	$(BIN)/pytest -q

demo: setup
	$(BIN)/python -m lab.demo

bench: setup
	$(BIN)/python -m bench

fuzz: setup
	$(BIN)/python -m tests.fuzz all

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
