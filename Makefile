# Everything a newcomer and CI run. `make demo` and `make test` set up what they need by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip knows a machine's folder of ready wheels from its own settings; uv has to be told.
FIND_LINKS = $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || echo "$$PIP_FIND_LINKS")

.PHONY: setup demo test check format lint types bench parity clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev,track]'
	@touch $@

demo: setup
	bash demo.sh

test: setup
	$(BIN)/pytest

check: format lint types test

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

bench: setup
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/run_all.py

parity: setup
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[parity]'
	$(BIN)/pytest tests/test_x3d.py

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
