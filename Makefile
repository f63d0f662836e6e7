# Needs only Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test tests cover properties check bench clean docs fit lock posttrain

demo: $(READY)
	$(BIN)/polysilicon demo

# Checks and tests side by side; a failure of either fails it.
test: $(READY)
	@$(MAKE) --no-print-directory --jobs 2 check tests

tests: $(READY)
	@$(PYTHON) tools/bootstrap.py --for-tests
	@# Compiled once, beside the checks, and not in each process of the tests.
	@$(BIN)/python -m compileall -q src tests
	@$(BIN)/polysilicon simulate examples/agents.jsonl --fleet examples/fleet_cloud.toml --json > /dev/null
	@# A thread each for linear algebra: those of one worker would wait for each other, busily.
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 40

# The tests again, telling which lines and branches none of them reaches.
cover: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --cov --cov-report=term:skip-covered

# The properties with other examples than those that `make test` has each time.
properties: $(READY)
	$(BIN)/python -m pytest -n 2 --hypothesis-profile=default tests/property

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)
	$(BIN)/python benchmarks/all.py

# Post-trains the small model with three seeds, and shows how its held-back pass rate rose. PyTorch is
# installed for this alone; the engine's kernels are compiled for this CPU where that can be done.
posttrain: $(READY)
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[train]"
	-$(BIN)/polysilicon engine build
	$(BIN)/polysilicon run posttrain --concurrency 1 --task-timeout 7200
	$(BIN)/python -m polysilicon.agents.posttrain "$$(ls -d runs/*-posttrain | tail -n 1)"

# Fits the laws of the cost model again and scores them on held-out rows; one thread is fastest.
fit: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m polysilicon.cost.fit
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m polysilicon.cost.fit.cpu
	$(BIN)/python tools/score_table.py

# Writes the pages on prices and on placements again, from the laws, facts and prices as they are.
docs: $(READY)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m polysilicon.report.price_performance docs
	OPENBLAS_NUM_THREADS=1 $(BIN)/python tools/placement_savings.py docs

$(READY): requirements.lock pyproject.toml tools/bootstrap.py
	$(PYTHON) tools/bootstrap.py $(VENV)
	@touch $(READY)

lock: $(READY)
	$(BIN)/python -m pip install --quiet "pip-tools==7.6.2"
	CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/pip-compile --quiet --extra dev --strip-extras --allow-unsafe --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .coverage
