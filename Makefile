# Everything happens in .venv; only Python 3.11+ and a C++ compiler are needed.
PYTHON ?= python3
SECONDS ?= 600
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install -q -c constraints.txt
NATIVE := CMakeLists.txt $(shell find csrc -type f)

.PHONY: demo test lint format fuzz docs web dev lock clean

demo: .venv/.installed  ## the main job: text out of the embedded packed model
	$(BIN)/unmul run -p "Once upon a time" -n 160 --seed 2

test: .venv/.dev  ## the whole suite
	$(BIN)/python -m pytest -n auto

lint: .venv/.dev  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: .venv/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

fuzz: .venv/.dev  ## every reader of foreign bytes, SECONDS each; a fault leaves its input in ./crash-*
	for target in tensors latent packed tokenizer listing program request; do \
	  PYTHONPATH=tests $(BIN)/python -m fuzz $$target -max_total_time=$(SECONDS) || exit 1; done

docs: .venv/.dev  ## the site, in build/site/docs; a broken link is an error
	$(BIN)/sphinx-build -q -n -W --keep-going -c docs . build/site

web: .venv/.dev  ## one HTML file with the engine and the embedded model: build/web/unmul.html
	$(BIN)/python tools/web.py

dev: .venv/.dev  ## editable install with everything

lock:  ## constraints.txt anew: the newest versions of everything but torch and triton
	rm -rf build/lock && mkdir -p build && $(PYTHON) -m venv build/lock
	grep -E '^(torch|triton)==' constraints.txt >build/held.txt
	build/lock/bin/pip --disable-pip-version-check install -q -c build/held.txt -e '.[dev]'
	grep '^#' constraints.txt >build/locked.txt
	build/lock/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' >>build/locked.txt
	mv build/locked.txt constraints.txt && rm -r build/lock

.venv/.installed: pyproject.toml constraints.txt $(NATIVE)
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) -e .
	touch $@

.venv/.dev: .venv/.installed
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist
