# Everything starts here. On a fresh machine only Python 3.11 or newer (with venv) and make are needed.

PYTHON ?= python3
ARGS   ?=
# Many tests wait rather than compute: more processes than cores pay. Each has services of its own, with up to 90
# connections: a database server that is not the embedded one may have no more than 100.
TEST_PROCESSES ?= $(if $(DATABASE_URL),1,6)

# The tests start the service some two hundred times; each time it would compile all of its modules.
unexport PYTHONDONTWRITEBYTECODE

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet

PROTOS := $(shell find proto -name '*.proto' 2>/dev/null)
LANDED := proto/landed.binpb

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

# --- what a person types ------------------------------------------------------------------------

.PHONY: help
help: ## show this list
	@echo 'usage: make TARGET [ARGS="..."] [PYTHON=python3.12]'
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | \
	    while IFS='|' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done

.PHONY: run
run: $(VENV)/run.stamp ## start the service with an embedded database and demo data; ARGS go to `serve`
	@exec $(BIN)/wepeople-ingest serve --demo $(ARGS)

# Tests with a target of their own: they take long, or need more than Python.
APART := --ignore tests/pressure --ignore tests/generators --ignore tests/portal --ignore tests/operations \
    --ignore tests/deploy

.PHONY: test
test: $(VENV)/dev.stamp ## run the tests in TEST_PROCESSES processes, but for those apart; ARGS go to pytest
	@exec $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) $(APART) $(ARGS)

.PHONY: coverage
coverage: $(VENV)/dev.stamp ## run the tests and print the branch coverage; ARGS go to pytest
	@exec $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) $(APART) \
		--cov --cov-report=term:skip-covered $(ARGS)

.PHONY: format
format: $(VENV)/dev.stamp ## sort the imports and format the code
	$(BIN)/ruff check --select I --fix
	$(BIN)/ruff format

.PHONY: check
check: lint types imports proto ## everything but the tests: lint, types, import contracts, the .proto contract

.PHONY: gen
gen: $(VENV)/dev.stamp ## regenerate the messages of the server and of the client from proto/
	$(BIN)/python -m grpc_api.generate

.PHONY: bench
bench: $(VENV)/dev.stamp ## measure what the service takes; ARGS go to `bench`
	@exec $(BIN)/wepeople-ingest bench $(ARGS)

.PHONY: peers
peers: $(VENV)/dev.stamp ## measure what else takes events, as files describe it: ARGS="--peer FILE.toml ..." (BENCHMARKS.md)
	@[ -n '$(findstring --peer,$(ARGS))' ] || \
	    { echo 'make peers ARGS="--peer FILE.toml ... [--own]"; examples are in service/bench/peers/' >&2; exit 2; }
	@exec $(BIN)/wepeople-ingest bench $(ARGS)

.PHONY: capacity
capacity: $(VENV)/dev.stamp ## measure the bytes of an event, and print the tables of docs/scale.md
	@exec $(BIN)/python -m tests.capacity

.PHONY: growth
growth: $(VENV)/dev.stamp ## measure what many stored events change; ARGS="--events 100000000 --folder DIR" (BENCHMARKS.md)
	@exec $(BIN)/python -m tests.growth $(ARGS)

.PHONY: generator-tests
generator-tests: $(VENV)/dev.stamp ## generate clients from the OpenAPI document with the tools that `.ci/run` installs, and try them
	@exec $(BIN)/python -m pytest tests/generators $(ARGS)

.PHONY: browser-tests
browser-tests: $(VENV)/dev.stamp ## try the pages in Debian's Chromium, and html-validate them if `.ci/run` has installed it
	@exec $(BIN)/python -m pytest tests/portal $(ARGS)

.PHONY: operations-tests
operations-tests: $(VENV)/dev.stamp ## run the commands of docs/operations.md on real servers, and two releases beside each other
	@exec $(BIN)/python -m pytest tests/operations $(ARGS)

.PHONY: deploy-tests
deploy-tests: $(VENV)/dev.stamp ## hold deploy/ to its tools, which `.ci/run` installs, and install the service as its image does
	@exec $(BIN)/python -m pytest tests/deploy $(ARGS)

.PHONY: pressure-tests
pressure-tests: $(VENV)/dev.stamp ## a few seconds of every flood and of the soak, as tests; ARGS go to pytest
	@exec $(BIN)/python -m pytest tests/pressure $(ARGS)

.PHONY: pressure
pressure: $(VENV)/dev.stamp ## a minute each of every flood beside a quiet tenant, as a table; ARGS="NAME... --seconds N --json"
	@exec $(BIN)/python -m tests.pressure $(ARGS)

.PHONY: soak
soak: $(VENV)/dev.stamp ## ten minutes of faults and floods at random, with a ledger of every event; ARGS="--seconds N --seed N"
	@exec $(BIN)/python -m tests.pressure.soak $(ARGS)

.PHONY: matrix
matrix: $(VENV)/dev.stamp ## run the behaviour suite on two cells, Citus, the system's PostgreSQL and PgBouncer; ARGS replace tests/behaviour
	@exec $(BIN)/python -m tests.matrix $(ARGS)

.PHONY: kills
kills: $(VENV)/dev.stamp ## 200,000 events through `produce` while the server is killed 20 times; ARGS go to the script
	@exec $(BIN)/python -m tests.faults.kill_produce $(ARGS)

# Not a part of CI: it takes hours to the end. Results stay in mutants/, and another run goes on after them.
MUTANTS_SECONDS ?= 1800
.PHONY: mutants
mutants: $(VENV)/mutants.stamp ## change core/rules and core/journal, and list the changes that no test noticed; ARGS="NAME..." of mutmut
	@timeout --signal INT $(MUTANTS_SECONDS) $(BIN)/mutmut run --max-children 2 $(ARGS) || [ $$? -eq 124 ]
	@$(BIN)/mutmut results | grep -v 'not checked' || true
	@$(BIN)/mutmut export-cicd-stats >/dev/null && cat mutants/mutmut-cicd-stats.json

.PHONY: lock
lock: $(VENV)/dev.stamp ## resolve both pyproject.toml into the four lock files; ARGS="--upgrade" for newer versions
	$(LOCK) $(PROJECTS) --group build --output-file requirements.lock
	$(LOCK) $(PROJECTS) --group dev --constraints requirements.lock --output-file requirements-dev.lock
	$(LOCK) $(PROJECTS) --group build --extra otel --constraints requirements-dev.lock --output-file requirements-otel.lock
	$(LOCK) --group mutants --constraints requirements-dev.lock --output-file requirements-mutants.lock

.PHONY: proto-landed
proto-landed: $(VENV)/dev.stamp ## take the present .proto contract as the one clients rely on
	@if [ -f $(LANDED) ]; then $(BIN)/buf breaking --against $(LANDED); fi
	$(BIN)/buf build --exclude-source-info --output $(LANDED)

.PHONY: venv
venv: $(VENV)/dev.stamp ## only install, with all that development needs

.PHONY: clean
clean: ## remove .venv and whatever else can be made again; databases stay
	rm -rf $(VENV) build dist mutants *.egg-info client/build client/dist client/*.egg-info
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .schemathesis .coverage .coverage.*
	find core http_api grpc_api service client tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# --- the parts of check ----------------------------------------------------------------------------

.PHONY: lint
lint: $(VENV)/dev.stamp
	bash -n .ci/run
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: $(VENV)/dev.stamp
	$(BIN)/mypy

.PHONY: imports
imports: $(VENV)/dev.stamp
	$(BIN)/lint-imports --no-logo

# `buf breaking` compares with $(LANDED), an image of the contract as it last landed. It is committed, so that a
# fresh or shallow clone has it. `make proto-landed` renews it, and refuses while the change breaks clients; to break
# them deliberately, remove the file first and say so in CHANGELOG.md.
.PHONY: proto
ifeq ($(PROTOS),)
proto:
	@echo 'proto: skipped, there is no .proto file under proto/ yet'
else
proto: $(VENV)/dev.stamp
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@if [ -f $(LANDED) ]; then \
	    echo '$(BIN)/buf breaking --against $(LANDED)'; $(BIN)/buf breaking --against $(LANDED); \
	else \
	    echo 'proto: breaking changes not checked, nothing has landed yet (make proto-landed)'; \
	fi
	$(BIN)/python -m grpc_api.generate --check
endif

# --- installation ------------------------------------------------------------------------------------

# What the client needs, the project needs. Neither stands in a lock itself.
PROJECTS := pyproject.toml client/pyproject.toml
LOCK = $(BIN)/uv --no-config --quiet pip compile --universal --python-version 3.11 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(ARGS)

# The client is installed from its folder: no package index has it, and the project needs it.
INSTALL_PROJECT = $(PIP) install --no-deps --no-build-isolation --editable ./client --editable .

# One environment for everything. requirements-dev.lock contains requirements.lock, version for version; each has a
# stamp, and an installation runs again only when its lock or a pyproject.toml has changed.
$(VENV)/run.stamp: requirements.lock pyproject.toml client/pyproject.toml | $(VENV)/made.stamp
	@echo 'Installing requirements.lock into $(VENV) ...'
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(INSTALL_PROJECT)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock requirements.lock pyproject.toml client/pyproject.toml | $(VENV)/made.stamp
	@echo 'Installing requirements-dev.lock into $(VENV) ...'
	@$(PIP) install --require-hashes --requirement requirements-dev.lock
	@$(INSTALL_PROJECT)
	@touch $(VENV)/run.stamp $@

$(VENV)/mutants.stamp: requirements-mutants.lock $(VENV)/dev.stamp
	@echo 'Installing requirements-mutants.lock into $(VENV) ...'
	@$(PIP) install --require-hashes --requirement requirements-mutants.lock
	@touch $@

$(VENV)/made.stamp:
	@command -v $(PYTHON) >/dev/null || \
	    { echo '$(PYTHON) not found: install Python 3.11 or newer, or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	    { echo '$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@
