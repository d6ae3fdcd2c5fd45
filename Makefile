# The only door: everything that is done to this project is a target here.
.DEFAULT_GOAL := help
SHELL := /bin/bash

# Settings are variables: `make up ADAPTER_PORT=8010`. MODE is docker or native; without it, docker where an engine
# answers. PYTHON makes the .venv.
export MODE ?=
PYTHON ?= python3

VENV := .venv
PY := $(VENV)/bin/python
INSTALLED := $(VENV)/installed
NATIVE := $(PY) docker/native/run.py
COMPOSE := docker compose -f docker/compose.yaml \
	$(if $(shell command -v nvidia-smi),-f docker/compose.gpu.yaml) \
	$(if $(filter /%,$(CODER_CHECKPOINT)),-f docker/compose.coder-checkpoint.yaml) \
	$(if $(filter /%,$(OCR_CHECKPOINT)),-f docker/compose.ocr-checkpoint.yaml)
DOCKER_ANSWERS = docker info >/dev/null 2>&1
RUN_DIR ?= .run
NATIVE_RUNS = [ -S "$(RUN_DIR)/supervisor.sock" ]
CODE := adapter engine model_repository docker demo benchmarks tests

.PHONY: help
help: ## show this
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: ## serve: Docker where an engine answers, else the Triton binary from PyPI
	@mode='$(MODE)'; [ -n "$$mode" ] || { $(DOCKER_ANSWERS) && mode=docker || mode=native; }; \
		$(MAKE) --no-print-directory up-$$mode

.PHONY: down
down: ## end all of it
	@[ ! -x $(PY) ] || $(NATIVE) down
	@! $(DOCKER_ANSWERS) || $(COMPOSE) down

.PHONY: status
status: ## say what runs and what is loaded
	@if ! $(NATIVE_RUNS) && $(DOCKER_ANSWERS); then $(COMPOSE) ps; else $(NATIVE) status; fi

.PHONY: logs
logs: ## follow the logs
	@if ! $(NATIVE_RUNS) && $(DOCKER_ANSWERS); then $(COMPOSE) logs --follow; else $(NATIVE) logs; fi

.PHONY: up-native up-docker
up-native: $(INSTALLED)
	@$(NATIVE) up

up-docker:
	$(COMPOSE) up --build --detach --wait --wait-timeout 1800 || { $(COMPOSE) logs --tail 30; exit 1; }
	@$(COMPOSE) exec -T -e ADAPTER_PORT_INSIDE=8000 -e ADAPTER_PORT=$${ADAPTER_PORT:-8000} \
		-e TRITON_GRPC_PORT=$${TRITON_GRPC_PORT:-8001} -e TRITON_HTTP_PORT=$${TRITON_HTTP_PORT:-8003} \
		-e TRITON_METRICS_PORT=$${TRITON_METRICS_PORT:-8002} \
		adapter python - 'Triton in Docker, as $(if $(MODE),MODE=docker asks for it,a Docker engine answers)' \
		< docker/announce.py

.PHONY: install
install: $(INSTALLED) ## make .venv with everything in it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
		|| { echo "Python 3.10 to 3.12 is needed; $(PYTHON) is $$($(PYTHON) --version). Choose one: make PYTHON=python3.11 …"; exit 1; }
	@echo "Installing into $(VENV) (a minute or two) …"
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[adapter,engine,native,dev]'
	@touch $@

.PHONY: test
test: $(INSTALLED) ## run the tests, a real Triton included
	$(PY) -m pytest -m 'not slow' --numprocesses 2 --dist loadgroup

.PHONY: test-slow
test-slow: $(INSTALLED) ## run what `make test` leaves out: training's data, the GPU benchmark in small
	$(PY) -m pytest -m slow

.PHONY: train-coder train-ocr
train-coder: $(INSTALLED) ## train the coder demo checkpoint anew, or go on where it was interrupted
	$(PY) -m demo.coder.train

train-ocr: $(INSTALLED) ## the same for the OCR demo checkpoint; needs Debian's font packages
	$(PY) -m demo.ocr.train

.PHONY: readme
readme: $(INSTALLED) ## set anew what README's examples print; needs `make up`
	$(PY) -m demo.readme

.PHONY: bench bench-quick
bench: $(INSTALLED) ## adapter, engine and OCR beside their peers, into benchmarks/results; fetches vLLM, 3.5 GB
	$(PY) -m benchmarks.adapter
	$(PY) -m benchmarks.engines
	$(PY) -m benchmarks.ocr

bench-quick: $(INSTALLED) ## the same in minutes: one round, fewer workloads, without vLLM unless it is installed
	$(PY) -m benchmarks.adapter --quick
	$(PY) -m benchmarks.engines --quick
	$(PY) -m benchmarks.ocr --quick

.PHONY: bench-growth bench-cache bench-int8 bench-guidance bench-gpu bench-pages bench-demo
bench-growth: $(INSTALLED) ## step time by batch and context, memory over 10,000 requests
	$(PY) -m benchmarks.growth

bench-cache: $(INSTALLED) ## bytes per token of DeepSeek-V2's caches, latent and expanded, and the time of a step
	$(PY) -m benchmarks.latent_cache

bench-int8: $(INSTALLED) ## what 8-bit weights change: the demo's perplexity and choices, and the time of a step
	$(PY) -m benchmarks.int8

bench-guidance: $(INSTALLED) ## what holding answers to a schema costs
	$(PY) -m benchmarks.guidance

bench-gpu: $(INSTALLED) ## random models of DeepSeek's real sizes on an NVIDIA GPU
	$(PY) -m benchmarks.gpu

bench-pages: $(INSTALLED) ## pages per minute through the whole service, and a long PDF; needs `make up`
	$(PY) -m benchmarks.ocr_pages

bench-demo: $(INSTALLED) ## one user's waits on the demo checkpoints: tokens per second, seconds a page; needs `make up`
	$(PY) -m benchmarks.demo_models

.PHONY: lint
lint: $(INSTALLED) ## ruff and mypy --strict
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/mypy adapter engine

.PHONY: format
format: $(INSTALLED) ## let ruff rewrite the code
	$(VENV)/bin/ruff check --fix $(CODE)
	$(VENV)/bin/ruff format $(CODE)

.PHONY: clean
clean: ## remove what was installed and made here
	@[ ! -x $(PY) ] || $(NATIVE) down
	rm -rf $(VENV) .run .cache build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
