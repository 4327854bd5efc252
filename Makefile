# Everything a fresh machine with Python >= 3.11, git and make needs is installed by the targets themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is about Airflow; the rest does not know which one it is.
AIRFLOW2_TESTS := $(addprefix tests/,files operators sensors triggers hooks links test_example_dags.py test_pytest_plugin.py)
# The lowest Airflow is a 2, where tests/test_sharding.py has nothing to import.
LOWEST_TESTS ?= $(AIRFLOW2_TESTS) $(addprefix tests/,api deletion retention emulator)
QUICK := --numprocesses 6 --dist loadfile $(addprefix --ignore tests/,system browser databases faults kills celery benchmarks live test_docs.py)
# Whole Airflows side by side: as many as a small machine takes.
TWO := --numprocesses 2 --dist loadfile
PYTHONS ?= 3.12 3.13
# What pyproject.toml declares, extra emulator included.
DECLARED := apache-airflow alibabacloud-credentials alibabacloud-tea asgiref pendulum requests tenacity urllib3 \
	starlette uvicorn httptools
# Never look for the metadata of a cloud machine: off the cloud that only waits.
export ALIBABA_CLOUD_ECS_METADATA_DISABLED := true
# Where it is set, each of the many processes compiles Airflow anew, which takes longer than what it does then.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo ui test test-system test-airflow2 test-lineage test-azure test-browser test-databases faults kills kills-oss million celery figures live live-check wheel compatibility test-pythons test-lowest release workflow check format clean bench bench-check docs

demo: $(VENV)/ready  ## a real Airflow deletes media in a local IMS, and says what became of each
	$(BIN)/python dev/demo.py

ui: $(VENV)/ready  ## the same, then Airflow's web UI stays up until Ctrl-C
	$(BIN)/python dev/demo.py --ui

test: check  ## everything that is quick enough for each change
	$(BIN)/python -m pytest $(QUICK) tests/sensors tests  # the file that waits longest comes first

test-system: $(VENV)/ready  ## whole Airflow processes, killed and restarted
	$(BIN)/python -m pytest $(TWO) tests/system --ignore tests/system/airflow2

test-airflow2: .venv-airflow2/ready  ## the same tests on Airflow 2.11, and a deferral in real processes
	.venv-airflow2/bin/python -m pytest --numprocesses 6 --dist loadfile -W ignore $(AIRFLOW2_TESTS)
	.venv-airflow2/bin/python -m pytest -W ignore tests/system/airflow2

test-lineage: .venv-lineage/ready  ## what OpenLineage makes of a deletion, with its own provider
	.venv-lineage/bin/python -m pytest tests/operators/test_lineage.py

test-azure: .venv-azure/ready .venv-azure/node_modules/.bin/azurite-blob  ## the whole work on Azure's Blob Storage: abfs://, asked of Azurite
	STORES=azure .venv-azure/bin/python -m pytest $(addprefix tests/files/test_,runs_on_stores.py storage.py)

test-browser: $(VENV)/ready /usr/bin/chromium  ## the connection form in a real browser
	$(BIN)/python -m pytest $(TWO) tests/browser

faults: $(VENV)/ready  ## generated runs against a service that misbehaves; see python -m tests.faults --help
	$(BIN)/python -m pytest tests/faults
	$(BIN)/python -m tests.faults $(FAULTS)

kills: $(VENV)/ready  ## workers killed in the middle of deletions; see python -m tests.kills --help
	$(BIN)/python -m tests.kills $(KILLS)

kills-oss: $(VENV)/ready  ## the same with the report on a local OSS that has faults of its own
	$(BIN)/python -m tests.kills --store oss $(KILLS)

live: $(VENV)/ready  ## ask the real IMS what its documentation leaves open; LIVE=--yes does it, see docs/live.md
	$(BIN)/python -m tests.live $(LIVE)

live-check: $(VENV)/ready  ## the same, asked of a local IMS that decides one way and another; at most 2 minutes
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile tests/live

million: $(VENV)/ready  ## one task deletes a million media, killed twice; see python -m tests.kills.million --help
	$(BIN)/python -m tests.kills.million $(MILLION)

celery: .venv-celery/ready /usr/bin/redis-server /usr/bin/pg_ctlcluster  ## two Celery workers, one killed; see python -m tests.celery --help
	.venv-celery/bin/python -m tests.celery $(CELERY)

test-databases: .venv-databases/ready /usr/bin/pg_ctlcluster /usr/sbin/mariadbd  ## what Airflow keeps for the tasks, on PostgreSQL and MariaDB
	.venv-databases/bin/python -m pytest tests/databases

wheel: $(VENV)/ready  ## build sdist and wheel, and use the wheel in bare environments of four Airflow releases
	$(BIN)/python dev/check_wheel.py

compatibility: $(VENV)/ready  ## the wheel on each Python beside each Airflow, into docs/compatibility.md
	$(BIN)/python dev/compatibility.py $(COMPATIBILITY)

test-pythons: $(VENV)/ready  ## the quick tests on other Pythons that are on the machine; PYTHONS="3.13" for one
	@for version in $(PYTHONS); do \
		found=$$($(BIN)/python dev/find_python.py $$version) || { echo "Skipped"; continue; }; \
		$(MAKE) --no-print-directory .venv-py$$version/ready PYTHON=$$found \
			&& .venv-py$$version/bin/python -m pytest $(QUICK) $(PYTHON_TESTS) || exit 1; \
	done

test-lowest: .venv-lowest/ready  ## the quick tests with the lowest versions that pyproject.toml declares
	.venv-lowest/bin/python -m pytest $(QUICK) -W ignore $(LOWEST_TESTS)

release: $(VENV)/ready  ## build and check what is to be published, and say what a person does then
	$(BIN)/python dev/release.py

workflow: $(VENV)/ready  ## is the GitHub workflow one that GitHub would take?
	$(BIN)/uv tool run --quiet check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

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

.venv-airflow2/ready: pyproject.toml constraints/airflow-2.txt $(VENV)/ready
	$(PYTHON) -m venv .venv-airflow2
	$(BIN)/uv pip install --quiet --python .venv-airflow2/bin/python --constraint constraints/airflow-2.txt \
		--editable '.[emulator]' --group dev
	touch $@

.venv-py%/ready: pyproject.toml constraints/airflow-3.txt $(VENV)/ready
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --constraint constraints/airflow-3.txt \
		--editable '.[emulator]' --group dev
	touch $@

# What the package declares as low as it goes; what Airflow brings, as that release came with it. Below 1.0.3 the
# credentials library is refused wherever it would be used: tests/hooks/test_credential_traps.py.
.venv-lowest/ready: pyproject.toml constraints/airflow-2.11.0.txt $(VENV)/ready
	$(BIN)/uv venv --quiet --clear --python $(PYTHON) .venv-lowest
	grep -viE '^(alibabacloud.*|apache-airflow-providers-.*|$(subst $(eval) ,|,$(DECLARED)))==' constraints/airflow-2.11.0.txt > .venv-lowest/brought.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
		--constraint .venv-lowest/brought.txt --editable '.[emulator]' 'alibabacloud-credentials>=1.0.3'
	$(BIN)/uv pip freeze --quiet --python .venv-lowest/bin/python --exclude-editable \
		| grep -iE '^($(subst $(eval) ,|,$(DECLARED)))==' > .venv-lowest/constraints.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --constraint .venv-lowest/constraints.txt \
		--constraint .venv-lowest/brought.txt --editable '.[emulator]' --group dev
	touch $@

.venv-lineage/ready: pyproject.toml constraints/airflow-3.txt $(VENV)/ready
	$(PYTHON) -m venv .venv-lineage
	$(BIN)/uv pip install --quiet --python .venv-lineage/bin/python --constraint constraints/airflow-3.txt \
		--editable '.[emulator]' --group dev --group lineage
	touch $@

.venv-azure/ready: pyproject.toml constraints/airflow-3.txt $(VENV)/ready
	$(PYTHON) -m venv .venv-azure
	$(BIN)/uv pip install --quiet --python .venv-azure/bin/python --constraint constraints/airflow-3.txt \
		--editable '.[emulator]' --group dev --group azure
	touch $@

# The server that Microsoft gives out for tests.
.venv-azure/node_modules/.bin/azurite-blob: .venv-azure/ready /usr/bin/npm
	npm install --silent --no-audit --no-fund --prefix .venv-azure azurite@3
	touch $@

/usr/bin/npm:
	apt-get update -qq && apt-get install -qq --yes --no-install-recommends npm

.venv-celery/ready: pyproject.toml constraints/airflow-3.txt $(VENV)/ready
	$(PYTHON) -m venv .venv-celery
	$(BIN)/uv pip install --quiet --python .venv-celery/bin/python --constraint constraints/airflow-3.txt \
		--editable '.[emulator]' --group celery
	touch $@

# The driver of MySQL comes as source.
.venv-databases/ready: pyproject.toml constraints/airflow-3.txt $(VENV)/ready /usr/bin/mariadb_config
	$(PYTHON) -m venv .venv-databases
	$(BIN)/uv pip install --quiet --python .venv-databases/bin/python --constraint constraints/airflow-3.txt \
		--editable '.[emulator]' --group databases
	touch $@

# At this run level nothing that a package installs is started.
/usr/bin/redis-server /usr/bin/pg_ctlcluster:
	apt-get update -qq && RUNLEVEL=1 apt-get install -qq --yes --no-install-recommends redis-server postgresql

/usr/sbin/mariadbd /usr/bin/mariadb_config:
	apt-get update -qq && RUNLEVEL=1 apt-get install -qq --yes --no-install-recommends \
		mariadb-server libmariadb-dev gcc pkg-config

/usr/bin/chromium:
	apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core

figures: $(VENV)/ready .venv-databases/ready /usr/bin/pg_ctlcluster /usr/sbin/mariadbd  ## what the documentation claims, measured; takes half an hour
	$(BIN)/python -m tests.api.rate_limit_simulation
	$(BIN)/python -m tests.faults.figures
	$(BIN)/python -m tests.retention.figures
	$(BIN)/python -m tests.files.figures
	$(BIN)/python -m tests.web.figures
	$(BIN)/python -m tests.sharding_figures
	$(BIN)/python tests/triggers/figures.py
	.venv-databases/bin/python -m tests.databases

bench: .venv-bench/ready  ## side by side with the official SDK, into benchmarks/RESULTS.md; BENCH="latency limit" for some
	.venv-bench/bin/python -m benchmarks $(BENCH)

bench-check: $(VENV)/ready  ## is it still as fast and as small as benchmarks/results say? at most 3 minutes
	$(BIN)/python -m pytest tests/benchmarks
	$(BIN)/python -m benchmarks.check

# Only Airflow and the SDK as in the other environments: Amazon's library wants other versions of the rest.
.venv-bench/ready: pyproject.toml constraints/airflow-3.txt $(VENV)/ready
	$(PYTHON) -m venv .venv-bench
	grep -E '^(apache-airflow|alibabacloud)' constraints/airflow-3.txt > .venv-bench/constraints.txt
	$(BIN)/uv pip install --quiet --python .venv-bench/bin/python --constraint .venv-bench/constraints.txt \
		--editable '.[emulator]' --group bench
	touch $@

docs: $(VENV)/docs-ready  ## every snippet is run, and the pages go into build/docs; a link that leads nowhere is an error
	$(BIN)/python -m pytest --numprocesses 4 tests/test_docs.py
	AIRFLOW_HOME=$(CURDIR)/build/airflow-of-docs $(BIN)/sphinx-build --quiet --fresh-env --fail-on-warning --keep-going -c docs . build/docs

$(VENV)/docs-ready: $(VENV)/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints/airflow-3.txt --group docs
	touch $@

clean:
	rm -rf $(VENV) .venv-airflow2 .venv-lineage .venv-azure .venv-celery .venv-databases .venv-py* .venv-lowest build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .venv-bench
