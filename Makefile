# Everything runs in .venv, which is made at first use and updated when pyproject.toml changes. It holds the packages
# of one set of extras: those of the demo, or those of all other targets, which include the demo's.
PYTHON ?= python3
BIN := .venv/bin
DEMO := .venv/.demo
DEV := .venv/.dev
DEMO_EXTRAS := anthropic,openai,mistral
NODE := tests/node/node_modules/.ready
CODE := streamcore pytest_streamcore providers examples benchmarks tests docs

# Install extras, in a fifth of pip's time where uv can be had. uv does not read pip's settings (an index, a proxy).
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
INSTALL = { $(PIP) uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --editable '.[$(1)]'; } || \
	{ echo "uv cannot install them; using pip ..."; $(PIP) --editable '.[$(1)]'; }

LOWEST := .venv-lowest
# What the oldest supported versions must pass: all that touches an SDK, and the command line.
LOWEST_TESTS := tests/wire tests/providers tests/testing/recordings tests/test_execute.py tests/prompts/test_prompt_file.py \
	tests/cli/test_cli.py tests/testing/test_plugin.py

# More workers than cores, since many tests wait for a clock or another process.
WORKERS = $(shell $(BIN)/python -c 'import os; print(max(2, os.cpu_count() * 2))')

# Without compiled files each Python process takes seconds longer to start. Packages are compiled as they are imported,
# not when they are installed. Where the source tree must stay free of compiled files, .venv holds them.
ifdef PYTHONDONTWRITEBYTECODE
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache
endif

.PHONY: demo node test test-long test-all test-lowest live check audit format stress bench bench-quick bench-sections docs clean

demo: $(if $(wildcard $(DEV)),$(DEV),$(DEMO))
	@$(BIN)/python examples/demo_streaming.py --verify

# The JavaScript clients that the tests run, and their Node.js, of the versions in tests/node/package-lock.json. Without
# them, these tests are skipped.
node: $(NODE)

# All but the tests that are long by nature; at most five minutes on two cores.
test: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not long"

# The rest: kill trials, browsers, load, full matrices.
test-long: $(DEV)
	$(BIN)/python -m pytest -n $(WORKERS) -m long

test-all: test test-long

# The oldest versions that pyproject.toml allows, each as low as the others let it be.
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -q -n auto $(LOWEST_TESTS)

# Real vendors, those whose keys are in the environment; RECORD=1 refreshes tests/recordings/live.
live: $(DEV)
	$(if $(RECORD),STREAMCORE_LIVE_RECORD=tests/recordings/live) $(BIN)/python -m pytest -rs tests/live/vendors.py

check: $(DEV)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

# Known vulnerabilities of the packages in .venv, at the versions that are tested. It reports and never fails: a finding
# may have no fix yet, and a network may be down.
audit: $(DEV)
	@{ $(BIN)/uv pip freeze --python $(BIN)/python || $(BIN)/python -m pip freeze; } 2>/dev/null \
		| grep -v '^-e ' > .venv/locked.txt || true
	@$(BIN)/python -m pip_audit --requirement .venv/locked.txt --no-deps --disable-pip --progress-spinner off \
		|| echo "audit: see the findings above, if there are any; this does not fail the build"

# The documentation site, in site/. A broken link, an anchor that is not there and a public name without a docstring fail.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built site/index.html"

format: $(DEV)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

stress: $(DEV)
	$(BIN)/python -W error tests/stress.py

# Next to every peer, each in an environment of its own under .bench; writes docs/benchmarks.md.
bench: $(DEV)
	$(BIN)/python -m benchmarks.peers

# The sections of docs/benchmarks.md about a first answer, ten thousand streams, two workers and growth; about ten minutes
# on two quiet cores.
bench-sections: $(DEV)
	@missed=; for script in cold crowds workers scaling; do \
		echo "== benchmarks/$$script.py"; $(BIN)/python benchmarks/$$script.py || missed="$$missed $$script"; \
	done; test -z "$$missed" || { echo "missed a target:$$missed"; exit 1; }

# Without peers, and every limit that the other scripts hold; a limit that is missed is told at the end.
bench-quick: $(DEV)
	@missed=; for script in decode limits imports pipeline graph sse cold scaling agent endpoints telemetry; do \
		echo "== benchmarks/$$script.py"; \
		$(BIN)/python benchmarks/$$script.py --quick || missed="$$missed $$script"; \
	done; \
	modules=peers; command -v redis-server > /dev/null && modules="durable peers"; \
	for module in $$modules; do \
		echo "== benchmarks.$$module"; $(BIN)/python -m benchmarks.$$module --quick || missed="$$missed $$module"; \
	done; \
	test -z "$$missed" || { echo "missed a limit:$$missed"; exit 1; }

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "streamcore needs Python 3.11 or newer; set one with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "Making .venv with $$($(PYTHON) --version) ..."
	@$(PYTHON) -m venv .venv

$(DEMO): pyproject.toml | $(BIN)/python
	@echo "Installing streamcore and the SDKs of Anthropic, OpenAI and Mistral into .venv (once) ..."
	@$(call INSTALL,$(DEMO_EXTRAS))
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@echo "Installing streamcore and all that its tests and checks need into .venv (once) ..."
	@$(call INSTALL,dev)
	@touch $@

.venv/.docs: pyproject.toml $(DEV)
	@echo "Installing what the documentation site needs into .venv (once) ..."
	@$(call INSTALL,docs)
	@touch $@

$(NODE): tests/node/package.json tests/node/package-lock.json
	@command -v npm > /dev/null || { echo "make node needs npm (Debian: apt-get install npm)"; exit 1; }
	@echo "Installing the JavaScript clients of the tests and Node.js 22 into tests/node/node_modules (once) ..."
	@cd tests/node && npm ci --loglevel=error
	@touch $@

$(LOWEST)/.ready: pyproject.toml $(DEV)
	rm -rf $(LOWEST)
	$(PYTHON) -m venv --without-pip $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(BIN)/uv pip list --python $(LOWEST)/bin/python
	@touch $@

clean:
	rm -rf .venv $(LOWEST) .bench tests/node/node_modules build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
