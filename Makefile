# Everything a user needs is one of these words; `make` alone says what they do.
.DEFAULT_GOAL := help
.PHONY: help demo test browser properties up check bench chaos lock format clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
READY := .venv/ready

help:
	@echo "make demo        run real orders through the whole stack, watch them, stop"
	@echo "make test        run the whole test suite"
	@echo "make browser     walk the desk with a real browser, as part of make test does"
	@echo "make properties  look at random for what breaks a promise (EXAMPLES= SEED=)"
	@echo "make up          start the stack and stay; Ctrl-C stops it"
	@echo "make check       lint, types, layers, migrations, Django's own checks"
	@echo "make bench       measure the engine beside Celery, DBOS and Prefect; PARTS=\"http drain\", QUICK=1"
	@echo "make chaos       break everything in turn while orders come in, then count (ORDERS= SECONDS= SEED= PROFILE=undo)"
	@echo "make lock        pin the requirements anew from pyproject.toml"
	@echo "make clean       delete everything that the above have made, orders included"

# A copied folder keeps its dates, so the pins themselves say whether they are installed.
$(READY): requirements/dev.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, with its venv module."; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
		echo "$(PYTHON) has no venv module; install it (on Debian: apt-get install python3-venv)."; exit 1; }
	@echo "Installing into .venv (once) …"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
		-r requirements/dev.txt
	@touch $(READY)

demo: $(READY)
	@$(BIN)/python manage.py demo

test: $(READY)
	@$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder $(ARGS)

browser: $(READY)
	@$(BIN)/python -m pytest tests/browser $(ARGS)

properties: $(READY)
	@seed=$(or $(SEED),$$(date +%s)); \
	echo "The same again: make properties SEED=$$seed EXAMPLES=$(or $(EXAMPLES),2000)"; \
	OMS_TEST_EXAMPLES=$(or $(EXAMPLES),2000) \
		$(BIN)/python -m pytest tests/properties --hypothesis-seed=$$seed $(ARGS)

up: $(READY)
	@$(BIN)/python manage.py stack up

chaos: $(READY)
	@$(BIN)/python -m tests.chaos.run --orders $(or $(ORDERS),5000) --seconds $(or $(SECONDS),600) \
		--profile $(or $(PROFILE),boundary) --failpoints $(or $(FAILPOINTS),0) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

bench: $(READY)
	@$(BIN)/python manage.py bench $(PARTS) $(if $(QUICK),--quick) $(ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py stack exec -- $(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/python manage.py check
	$(BIN)/python manage.py workflows check

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe \
	--no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock: $(READY)
	$(COMPILE) --extra embedded -o requirements/base.txt pyproject.toml
	$(COMPILE) --extra embedded --extra dev -o requirements/dev.txt pyproject.toml
	$(COMPILE) -o requirements/competitors.txt requirements/competitors.in
	$(COMPILE) -o requirements/prefect.txt requirements/prefect.in

clean:
	@test ! -e $(READY) || $(BIN)/python manage.py stack clean
	@test ! -e $(READY) || OMS_HOME=.oms/test $(BIN)/python manage.py stack clean
	@test ! -e $(READY) || $(BIN)/python -m tests.memory
	rm -rf .venv .oms .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
