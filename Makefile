# Everything runs in .venv; nothing outside this folder is touched.
#   make test         all checks           make reproduce    the figures and tables, into results/
#   make lab          the chapters         make help         this and the rest
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first of these that is new enough; name another with PYTHON=...
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
endif
VENV    ?= .venv
# What is installed before everything else. A plain `torch` would pull several GB of CUDA libraries on some
# systems; with a GPU say e.g. `make reproduce TORCH=torch`. Anything pip understands may stand here.
TORCH   ?= torch==2.13.0
# Versions that the checks were made with; LOCK= takes the newest that settings.ini allows, `make lock` renews the file.
LOCK    ?= requirements.lock
PROFILE ?= quick
OUT     ?= results
# Some of the checks by name: make test STEPS="ruff pytest"
STEPS   ?=

BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check
ifdef CI
PIP_QUIET := -q --progress-bar off
endif
# One thread a process: several times less CPU time for arrays of this size than the default.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

DEPENDS := settings.ini pyproject.toml setup.py $(LOCK)
WITHIN  := $(if $(LOCK),-c $(LOCK))

# A torch that is already there stays, unless TORCH was given by hand and differs.
ifneq ($(origin TORCH),file)
ifneq ($(shell cat $(VENV)/.stamp-torch 2>/dev/null),$(TORCH))
.PHONY: $(VENV)/.stamp-torch
endif
endif

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F ':.*?## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo
	@echo "  PROFILE=quick|full  OUT=results  PYTHON=python3  TORCH='torch==2.13.0'  STEPS='export notebooks ...'"

$(BIN)/python:
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(or $(PYTHON),python3) is missing or older than Python 3.11; name a newer one: make test PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.stamp-torch: | $(BIN)/python
	@# an empty TORCH leaves the one that the package index gives
	$(if $(TORCH),$(PIP) install $(PIP_QUIET) $(TORCH))
	@printf '%s' "$(TORCH)" > $@

$(VENV)/.stamp-run: $(DEPENDS) | $(VENV)/.stamp-torch
	$(PIP) install $(PIP_QUIET) $(WITHIN) -e '.[screen]'
	@touch $@

$(VENV)/.stamp-dev: $(DEPENDS) | $(VENV)/.stamp-torch
	$(PIP) install $(PIP_QUIET) $(WITHIN) -e '.[dev]'
	@touch $(VENV)/.stamp-run $@

.PHONY: install dev
install: $(VENV)/.stamp-torch $(VENV)/.stamp-run ## .venv with the package
dev: $(VENV)/.stamp-torch $(VENV)/.stamp-dev ## .venv with the package and everything the checks need

.PHONY: test
test: dev ## export, notebooks, site, README, ruff, import layers, pytest
	$(BIN)/python tools/checks.py $(STEPS)

N ?= 2000
KILLS ?= 20
SEED ?= 0
.PHONY: torture
torture: dev ## N=2000 generated cases: spellings, damage, types, options, kills; a table of counts; KILLS=20 of each job
	$(BIN)/python tests/torture/run.py $(N) --seed $(SEED)
	$(BIN)/python tests/torture/run.py --kills $(KILLS) --seed $(SEED)

.PHONY: reproduce
reproduce: install ## train, score and draw into OUT; run again, it resumes (PROFILE=quick|full)
	$(BIN)/ion-ode reproduce --profile $(PROFILE) --out $(OUT)

.PHONY: evidence
evidence: dev ## ask every model about what it was not shown, then chapter 05 and README.md with what they say
	$(BIN)/ion-ode reproduce --only board --profile full --store --workers 2 --out $(OUT)
	$(BIN)/python tools/execute.py nbs/05_results.ipynb nbs/results/networks.ipynb nbs/index.ipynb
	$(BIN)/python tools/readme.py

.PHONY: figures
figures: dev ## every figure of the chapters as PDF and SVG, into figures/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python tools/figures.py

.PHONY: lab
lab: dev ## open the chapters in JupyterLab
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab nbs

.PHONY: readme
readme: dev ## README.md from nbs/index.ipynb
	$(BIN)/python tools/readme.py

.PHONY: page
page: install ## the live page as one file, nbs/explore/standalone.html
	$(BIN)/python tools/explore_data.py

.PHONY: export
export: dev ## notebooks to modules, then clean the notebooks
	$(BIN)/nbdev-export && $(BIN)/nbdev-clean

.PHONY: lock
lock: dev ## requirements.lock anew: the newest versions that settings.ini allows
	$(PIP) install $(PIP_QUIET) uv
	$(BIN)/python tools/lock.py

.PHONY: dist
dist: dev ## sdist and wheel in dist/, checked
	rm -rf build dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

.PHONY: clean clean-results
clean: ## remove what tools leave behind; keeps .venv and results
	rm -rf _proc _docs build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find ion_ode tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
clean-results: ## remove OUT after asking
	@test -d "$(OUT)" || { echo "$(OUT) is not there"; exit 0; }; \
	read -r -p "Delete $(OUT) ($$(du -sh "$(OUT)" | cut -f1)) for good? [y/N] " answer && \
	if [ "$$answer" = y ]; then rm -rf -- "$(OUT)"; else echo "kept"; fi
