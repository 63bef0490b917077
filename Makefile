# Needs Python 3.11 or newer, make and, for 'make test', a C++ compiler. Everything else is fetched and checked
# against the hashes in requirements/.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
ifeq ($(strip $(PYTHON)),)
$(error No Python 3.11 or newer with venv and ensurepip found; name one: make PYTHON=/path/to/python3)
endif
RUN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-eras check fix bench soak lock clean environment

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do \
		printf '  make %-10s %s\n' "$$name" "$$text"; done

demo: .venvs/demo/bin/corral ## Load and unload models on a router of the demo's own
	@CORRAL_LLAMA_SERVER="$$($(PYTHON) scripts/llama_server.py --cached 2>/dev/null)" .venvs/demo/bin/corral demo

test: ## Run all tests, on every Python found; builds llama-server once (about 8 minutes)
	@$(PYTHON) scripts/run_tests.py $(ARGS)

test-eras: ## Run the live tests on old llama-server builds too (each is built once)
	@for build in 9093 10240; do \
		echo "llama-server $$build"; \
		CORRAL_TEST_PYTHONS=default CORRAL_LIVE_BUILD=$$build $(PYTHON) scripts/run_tests.py -m live $(ARGS) || exit 1; \
	done

check: environment ## Lint, format, types, directions of imports, changelog
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy
	@$(RUN) -m pytest -q tests/test_imports.py

fix: environment ## Repair what the linter and the formatter can
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: environment ## Measure against the shell recipe; writes docs/benchmarks.md
	@CORRAL_LLAMA_SERVER="$$($(PYTHON) scripts/llama_server.py)" $(RUN) scripts/bench.py $(ARGS)

soak: environment ## Keep the gateway busy for 10 minutes; see that it holds no more than before
	@$(RUN) scripts/soak.py $(ARGS)

lock: ## Choose and pin anew what requirements/dev.in names
	@$(PYTHON) -m venv .venvs/lock
	@.venvs/lock/bin/python -m pip install -qq --disable-pip-version-check uv
	@.venvs/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
		--custom-compile-command "make lock" requirements/dev.in --output-file requirements/dev.txt

clean: ## Remove environments and what tools have made; the built llama-servers stay in the cache directory
	@rm -rf .venv .venvs .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	@find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

environment:
	@$(PYTHON) scripts/environment.py

.venvs/demo/bin/corral: pyproject.toml
	@$(PYTHON) -m venv .venvs/demo
	@.venvs/demo/bin/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@
