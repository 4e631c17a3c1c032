# `make demo` and `make test` do everything, `make page` shows it. Each sets up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo
PORT ?= 8765

.PHONY: demo page test check setup clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m compileall -q runtime store_kiosk train export # pip does so for a wheel alone
	touch $@

# A simulated retailer, a trained model, a release, a kiosk, and its answers.
demo: setup
	BIN=$(BIN) OUT=$(DEMO) sh examples/demo.sh

# The page that a shopper sees, on the demo's kiosk, until Ctrl-C.
page: setup
	test -d $(DEMO)/kiosk || BIN=$(BIN) OUT=$(DEMO) sh examples/demo.sh
	$(BIN)/c2rec-kiosk --home $(DEMO)/kiosk serve --port $(PORT)

test: setup
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# What a change has to pass besides the tests.
check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

clean:
	rm -rf $(VENV) $(DEMO) build dist *.egg-info
