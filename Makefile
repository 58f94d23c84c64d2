# Each target does all the set-up that it needs, from a bare clone on: see scripts/bootstrap.py.

PYTHON ?= python3
# Each interpreter has an environment of its own.
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(subst /,-,$(PYTHON:/%=%)))
BIN := $(VENV)/bin
# `make test LINT=` where the same files have passed lint and types.
LINT := lint
# More than there are cores: many tests wait for a process, a receiver or a browser.
TESTERS := $(shell echo $$(( $$(nproc) + 2 )))
NATIVE := fluxhook._native.event fluxhook._native.ring fluxhook._native.shared fluxhook._native.signing fluxhook._native.topics

.DEFAULT_GOAL := help
.PHONY: help demo test damage incident mutants lint lock bench build debug clean distclean
.NOTPARALLEL:

help:
	@echo 'make demo       the engine at work: three endpoints, one of them failing, one hanging'
	@echo 'make test       lint, types, stubs and all tests (ARGS="-k ring" chooses)'
	@echo 'make damage     every damage of every file of a data directory; what passed is left out next time'
	@echo 'make incident   one incident, of which every view must show the same; pictures in build/incident'
	@echo 'make mutants    changes to the modules that decide, each of which a test must notice (docs/testing.md)'
	@echo 'make lint       lint, types, stubs and words alone'
	@echo 'make lock       renews requirements/*.txt, the locked packages of demo and development'
	@echo 'make bench      the engine beside other ways to send, into bench/RESULTS.md; micro benchmarks'
	@echo 'make build      sdist and wheel in dist/'
	@echo 'make debug      rebuilds the compiled modules with bounds checks and assertions'
	@echo 'make clean      removes what was built; make distclean the environments too'
	@echo 'Another Python: make test PYTHON=python3.13. What is missing on a Debian is installed where'
	@echo 'that needs no password; elsewhere one line says what to install.'

ready-%:
	@$(PYTHON) scripts/bootstrap.py --venv $(VENV) $*

demo: ready-demo
	$(BIN)/fluxhook demo

test: ready-test $(LINT)
	$(BIN)/pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

damage: ready-test
	nice $(BIN)/python tests/damage/matrix.py $(ARGS)

incident: ready-test
	nice $(BIN)/python tests/incident/run.py $(ARGS)

mutants: ready-test
	nice $(BIN)/python tools/mutants.py $(ARGS)

lint: ready-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/stubtest $(NATIVE)
	$(BIN)/python tools/check_words.py
	$(BIN)/python scripts/changelog.py --check

lock: ready-lint
	$(BIN)/python scripts/lock.py

bench: ready-bench
	$(BIN)/python -m bench $(ARGS)
	$(BIN)/pytest bench --benchmark-only --benchmark-max-time=0.2 --benchmark-min-rounds=3

build: ready-build
	$(BIN)/python -m build --no-isolation

debug: ready-debug
	FLUXHOOK_DEBUG=1 $(BIN)/python setup.py --quiet build_ext --inplace

clean:
	rm -rf build dist engine/*.egg-info engine/fluxhook/_native/*.so
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

distclean: clean
	rm -rf .venv .venv-*
