# Each target does all the set-up that it needs, from a bare clone on: see scripts/bootstrap.py.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
NATIVE := fluxhook._native.ring fluxhook._native.signing fluxhook._native.topics

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench build debug clean distclean

help:
	@echo 'make demo       the engine at work: three endpoints, one of them failing, one hanging'
	@echo 'make test       lint, types, stubs and all tests (ARGS="-k ring" chooses)'
	@echo 'make lint       lint, types and stubs alone'
	@echo 'make bench      the engine beside other ways to send, into bench/RESULTS.md; micro benchmarks'
	@echo 'make build      sdist and wheel in dist/'
	@echo 'make debug      rebuilds the compiled modules with bounds checks and assertions'
	@echo 'make clean      removes what was built; make distclean the environment too'

$(READY): pyproject.toml setup.py scripts/bootstrap.py $(wildcard _native/*.pyx _native/*.h)
	@$(PYTHON) scripts/bootstrap.py

demo: $(READY)
	$(BIN)/fluxhook demo

test: lint
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest $(NATIVE)

bench: $(READY)
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/pytest bench --benchmark-only --benchmark-max-time=0.2 --benchmark-min-rounds=3

build: $(READY)
	$(BIN)/python -m build

debug: $(READY)
	FLUXHOOK_DEBUG=1 $(BIN)/python setup.py --quiet build_ext --inplace

clean:
	rm -rf build dist engine/*.egg-info engine/fluxhook/_native/*.so .venv/ready
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

distclean: clean
	rm -rf .venv
