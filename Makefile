# Verbs for people and for CI alike; each works alone and sets itself up in .venv first.
#
#   make install   a virtual environment with the pinned packages and this project, editable
#   make demo      grow the organism, fit, trace, write runs/demo/report.html   (DEMO=quick: smaller, in runs/quick)
#   make study     three base models, every arm, three dictionaries each: two to four hours; runs/study/study.md
#   make test      every test but the slow, GPU and network ones     make test-all: every test
#   make check     ruff, pyright, import contracts
#   make peers     every tool that benchmarks/ compares with, each in an environment of its own
#   make clean     remove .venv and tool caches; runs/ is kept
#
#   PYTHON=…       the interpreter the environment is made from (3.11 or newer)
#   PIP_EXTRA=…    more arguments for pip, for example to name an index that serves torch's CPU builds
#   TESTS=…        what pytest is given, for example TESTS="tests/contracts -k budget"

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
BIN := .venv/bin
STAMP := .venv/installed
TESTS ?=
DEMO ?=

.PHONY: install demo study test test-all check peers clean which-python
.DEFAULT_GOAL := install

install: $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m scripts.demo $(if $(filter quick,$(DEMO)),--quick true)

study: $(STAMP)
	$(BIN)/python -m benchmarks.bench_study

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 \
		-m "not slow and not gpu and not network" $(TESTS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -q $(TESTS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

# torch's build for processors alone has no torchvision beside it, which dictionary_learning can do
# without; the wrong one breaks its import.
peers: .peers/sparsify/installed .peers/dictionary_learning/installed .peers/saelens/installed

.peers/sparsify/installed: PACKAGE := eai-sparsify==1.3.3
.peers/dictionary_learning/installed: PACKAGE := dictionary-learning==0.1.0
.peers/saelens/installed: PACKAGE := sae-lens==6.54.0
.peers/%/installed:
	"$(PYTHON)" -m venv --clear .peers/$*
	.peers/$*/bin/python -m pip install --quiet $(PIP_EXTRA) torch==2.13.0 $(PACKAGE)
	.peers/$*/bin/python -m pip uninstall --quiet --yes torchvision
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info

which-python:
	@echo "$(PYTHON)"

$(STAMP): setup.cfg pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo \
		"forelimb: asked: Python 3.11 or newer; found: $$("$(PYTHON)" --version 2>/dev/null || echo none);" \
		"do: install one, then make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet $(PIP_EXTRA) -e '.[dev]' -c constraints.txt
	@touch $@
