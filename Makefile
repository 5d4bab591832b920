# `make demo` shows it, `make test` tests it; both need Python 3.11 or newer, and nothing else.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; \
	done)
BIN = .venv/bin

.PHONY: demo test lint bench chaos docs schema messages picture clean

demo: .venv/demo
	cd example_project && ../$(BIN)/python manage.py demo $(ARGS)

test: .venv/test lint
	$(BIN)/pytest -n auto --dist loadfile $(ARGS)
	TEST_DATABASE=postgres $(BIN)/pytest -n auto --dist loadfile $(ARGS)

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv-bench/bench  # fills the tables of docs/explanation/speed.md; needs wrk
	.venv-bench/bin/python -m tests.benchmarks.speed $(ARGS)

chaos: .venv/test  # some half an hour; ARGS=--short for a minute; needs redis-server
	$(BIN)/python -m tests.chaos $(ARGS)

docs: .venv/docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

schema: .venv/test
	PYTHONPATH=. $(BIN)/django-admin spectacular --settings tests.settings \
		--urlconf django_flashcall.rest_framework.urls --skip-checks --validate --fail-on-warn --file docs/openapi.yaml

messages: .venv/test
	cd django_flashcall && ../$(BIN)/django-admin makemessages -l ru --no-obsolete --no-wrap --add-location file
	cd django_flashcall && ../$(BIN)/django-admin compilemessages
	cd example_project && ../$(BIN)/django-admin makemessages -l ru --no-obsolete --no-wrap --add-location file
	cd example_project && ../$(BIN)/django-admin compilemessages

picture: .venv/test  # of the README, from the demo that runs in another terminal
	$(BIN)/python docs/picture.py $(ARGS)

clean:
	rm -rf .venv .venv-bench build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache docs/_build

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=…"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python setup.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[demo]'
	touch $@

.venv/test: .venv/bin/python setup.cfg
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,demo,docs]'
	touch $@

# An environment of its own: drfpasswordless brings another package of the same phone numbers.
.venv-bench/bench: setup.cfg
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

.venv/docs: .venv/test
	touch $@
