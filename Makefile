# Everything happens in .venv, which the first target that needs it creates; nothing else is
# installed or changed.
PYTHON ?= python3
# Test processes. Each computes with one thread: together they keep the cores busier than one
# process with several threads does.
WORKERS ?= 2
BIN = .venv/bin
READY = .venv/ready

.PHONY: install demo test browser-test check format web-runtime wheel wheel-test clean

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "found Python %d.%d; expected 3.11 or newer: make PYTHON=python3.11" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/alexnet demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS)

# The page in Chromium; says so where it, node or npm is missing.
browser-test: $(READY)
	sh tests/browser/run.sh $(BIN)/python

# A cache for each system, as mypy would otherwise check everything again.
check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --cache-dir .mypy_cache/win32
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(BIN)/pytest tests/test_architecture.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

web-runtime: $(READY)
	$(BIN)/python scripts/fetch_web_runtime.py

# Without npm or a network the wheel can do all but export pages.
wheel: $(READY)
	$(BIN)/python scripts/fetch_web_runtime.py || echo "the wheel will have no browser runtime, which export --format page needs"
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir dist .

# The wheel in an empty environment, in a folder of its own.
wheel-test: wheel
	$(PYTHON) scripts/try_wheel.py dist/alexnet-*.whl

clean:
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache
