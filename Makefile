# The two commands of a new user: make demo, make test. Both make their own environment in .venv, once.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready
MODEL := smollm2-135m
NOTEBOOKS := compare_readers what_it_knows steer_and_check planted_knowledge

.PHONY: demo test test-slow notebooks lint format wheel clean

demo: $(READY)
	$(BIN)/belief fetch $(MODEL)
	$(BIN)/belief demo --out demo-out/france
	$(BIN)/belief demo --out demo-out/untuned --fact "Poland|capital|Warsaw"

test: $(READY)
	$(BIN)/belief fetch $(MODEL)
	$(BIN)/python -m pytest

test-slow: $(READY)
	$(BIN)/belief fetch $(MODEL)
	$(BIN)/python -m pytest -m slow

# Run the notebooks and keep their outputs: static pictures, which need a Chromium. Bars and warnings stay out of them.
# make notebooks NOTEBOOKS="what_it_knows steer_and_check" runs some; VENV=DIR takes another environment.
notebooks: export HF_HUB_DISABLE_PROGRESS_BARS = 1
notebooks: export PYTHONWARNINGS = ignore
notebooks: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[notebooks]"
	$(BIN)/belief fetch $(MODEL)
	for name in $(NOTEBOOKS); do $(BIN)/jupytext --to ipynb --execute examples/$$name.py || exit 1; done

lint: $(READY)
	$(BIN)/ruff check .

format: $(READY)
	$(BIN)/ruff format --check .

# Build the wheel, install it into an empty environment, and look at what it brought.
wheel: $(READY)
	rm -rf build/wheel && mkdir -p build/wheel
	$(BIN)/python -m build --wheel --outdir build/wheel . >build/wheel/build.log 2>&1 || (cat build/wheel/build.log; exit 1)
	$(PYTHON) scripts/check_wheel.py build/wheel

$(READY): setup.cfg pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $(READY)

clean:
	rm -rf $(VENV) build dist demo-out *.egg-info
