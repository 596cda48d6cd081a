# The two commands: `make scale` and `make test`. Each sets up .venv by itself, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Compiled modules are kept, whatever the shell says: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup scale test services chaos $(addprefix chaos-,unit ray mutations kills hostile) check clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(READY)  ## Create .venv with everything in it (done by the others when needed)

$(READY): pyproject.toml
	$(PYTHON) -c 'import sys; ok = (3, 11) <= sys.version_info < (3, 14); \
	sys.exit(0 if ok else "dfz_ray needs Python 3.11, 3.12 or 3.13, found %d.%d; say which with make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(READY)

scale: $(READY)  ## Run the default scaling study: circuits, mazes and classifiers, three minutes at most
	$(BIN)/python benchmarks/scale.py --time-limit 150

test: $(READY)  ## Run the tests
	$(BIN)/python -m pytest tests/unit -n auto
	$(BIN)/python -m pytest tests/ray tests/cluster -n 2 --dist loadfile

services: $(READY)  ## Run the tests with Slurm, Prometheus, a browser and other Pythons, which it installs (Debian, as root)
	tests/services/install.sh
	$(BIN)/python -m pytest tests/services -m services
	if [ -e tests/other_pythons.sh ]; then tests/other_pythons.sh; fi

chaos: $(READY)  ## Kill whatever can be killed, in thousands of ways, and see that nothing is lost: two hours
	$(MAKE) --no-print-directory --keep-going --jobs=1 $(addprefix chaos-,unit ray mutations kills hostile)

chaos-unit: $(READY)
	DFZ_TESTS=whole $(BIN)/python -m pytest tests/unit -m "long or not long" -n auto

chaos-ray: $(READY) .loky/tests
	DFZ_LOKY=.loky $(BIN)/python -m pytest tests/ray tests/cluster -m long -n 2 --dist loadfile

# loky's tests, which DFZExecutor has to pass, are only in its source.
.loky/tests: $(READY)
	rm -rf .loky && mkdir .loky
	version=$$($(BIN)/python -c 'from importlib.metadata import version; print(version("loky"))') \
	&& $(BIN)/python -m pip download --quiet --no-deps --no-binary loky --dest .loky loky==$$version \
	&& tar xzmf .loky/loky-$$version.tar.gz -C .loky --strip-components 1 \
	|| echo "*** The source of loky can't be had here: its tests of executors are NOT run." >&2

chaos-mutations: $(READY)
	$(BIN)/python tests/mutations.py

chaos-kills: $(READY)
	$(BIN)/python tests/chaos.py

chaos-hostile: $(READY)
	$(BIN)/python tests/hostile.py

check: $(READY)  ## Check format, lint, types and floors
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## Remove .venv and everything that tools leave behind (runs/ and studies/ stay)
	rm -rf .venv .loky .pythons build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find dfz_ray tests benchmarks -name __pycache__ -type d -exec rm -rf {} +
