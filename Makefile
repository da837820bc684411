# Everything runs in .venv, which is made at first use and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
CODE := streamcore pytest_streamcore providers examples benchmarks tests docs

LOWEST := .venv-lowest
# What the oldest supported versions must pass: all that touches an SDK, and the command line.
LOWEST_TESTS := tests/wire tests/providers tests/testing/recordings tests/test_execute.py tests/prompts/test_prompt_file.py \
	tests/cli/test_cli.py tests/testing/test_plugin.py

.PHONY: demo test test-lowest live check format stress bench bench-quick docs clean

demo: $(READY)
	$(BIN)/python examples/demo_streaming.py --verify

test: $(READY)
	$(BIN)/python -m pytest -n auto

# The oldest versions that pyproject.toml allows, each as low as the others let it be.
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -q -n auto $(LOWEST_TESTS)

# Real vendors, those whose keys are in the environment; RECORD=1 refreshes tests/recordings/live.
live: $(READY)
	$(if $(RECORD),STREAMCORE_LIVE_RECORD=tests/recordings/live) $(BIN)/python -m pytest -rs tests/live/vendors.py

check: $(READY)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_layers.py

# The documentation site, in site/. A broken link, an anchor that is not there and a public name without a docstring fail.
docs: .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "built site/index.html"

format: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

stress: $(READY)
	$(BIN)/python -W error tests/stress.py

# Next to every peer, each in an environment of its own under .bench; writes docs/benchmarks.md.
bench: $(READY)
	$(BIN)/python -m benchmarks.peers

# Without peers, and every limit that the other scripts hold; a limit that is missed is told at the end.
bench-quick: $(READY)
	@missed=; for script in decode imports pipeline graph sse cold; do \
		echo "== benchmarks/$$script.py"; \
		$(BIN)/python benchmarks/$$script.py --quick || missed="$$missed $$script"; \
	done; \
	echo "== benchmarks.peers"; $(BIN)/python -m benchmarks.peers --quick || missed="$$missed peers"; \
	test -z "$$missed" || { echo "missed a limit:$$missed"; exit 1; }

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "streamcore needs Python 3.11 or newer; set one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(READY)

.venv/.docs: pyproject.toml $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

$(LOWEST)/.ready: pyproject.toml $(READY)
	rm -rf $(LOWEST)
	$(PYTHON) -m venv --without-pip $(LOWEST)
	$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable '.[dev]'
	$(BIN)/uv pip list --python $(LOWEST)/bin/python
	@touch $@

clean:
	rm -rf .venv $(LOWEST) .bench build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
