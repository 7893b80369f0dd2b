# `make demo` and `make test` need Python 3.11 or newer with venv and pip, and nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test slow lint docs
demo: .venv/installed
	$(BIN)/jaxssl run own --config.data.name=lenses --config.data.options.substructure=0.2 --workdir=runs/demo

test: .venv/installed lint
	$(BIN)/python -m pytest -n 2

slow: .venv/installed
	$(BIN)/python -m pytest -m slow

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/basedpyright

docs: .venv/installed
	$(BIN)/sphinx-build -W --keep-going --quiet docs docs/_build

.venv/installed: pyproject.toml setup.py constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxssl needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint,docs]'
	touch $@
