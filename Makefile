# Everything a fresh machine with Python >= 3.11, git and make needs is installed by the targets themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Never look for the metadata of a cloud machine: off the cloud that only waits.
export ALIBABA_CLOUD_ECS_METADATA_DISABLED := true

.PHONY: demo ui test check format clean

demo: $(VENV)/ready  ## a real Airflow deletes media in a local IMS, and says what became of each
	$(BIN)/python dev/demo.py

ui: $(VENV)/ready  ## the same, then Airflow's web UI stays up until Ctrl-C
	$(BIN)/python dev/demo.py --ui

test: check  ## everything that is quick enough for each change
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile $(addprefix --ignore tests/,system browser faults kills)

check: $(VENV)/ready  ## format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/ready: pyproject.toml constraints/airflow-3.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints/airflow-3.txt \
		--editable '.[emulator]' --group dev
	touch $@

clean:
	rm -rf $(VENV) .venv-airflow2 build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
