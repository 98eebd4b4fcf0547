# `make demo` and `make test` set everything up by themselves; `make help` lists the rest.

VENV ?= .venv
CORES ?= 2
UV_VERSION := 0.13.8
BIN := $(VENV)/bin
READY := $(VENV)/.psflib-ready

# The first interpreter on the path that can make a virtual environment.  On 3.14 and newer one
# dependency has no wheel yet and needs a C compiler, so that python3 comes last.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c '$(SUITABLE)' 2>/dev/null && echo $$p && break; done)

# Two workers share two cores: threads inside each of them would only get in the way.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
# Without byte code every process compiles all imports again (2.3 s instead of 0.8 s).
export UV_COMPILE_BYTECODE := 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format bench peers parity names picture notebooks schema lock browser clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## make the virtual environment (.venv) from the hashed lock, and compile all loops

$(READY): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "psflib needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	$(BIN)/python -m psflib compile
	@touch $@

demo: $(READY)  ## the whole chain on the embedded field, then its figures against the truth
	$(BIN)/snakemake --cores $(CORES)
	$(BIN)/python -m psflib check --output results

test: $(READY) browser  ## the whole test suite
	$(BIN)/python -m pytest -n $(CORES) --dist loadfile

check: $(READY)  ## lint, format of Python and Snakemake files, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy

format: $(READY)  ## let ruff and snakefmt lay out all files
	$(BIN)/ruff format
	$(BIN)/ruff check --fix
	$(BIN)/snakefmt Snakefile workflow

bench: $(READY)  ## ePSF, wings, haloes, matching and SFFT against truth and peers; seconds and memory of every stage
	$(BIN)/snakemake --cores 1 --forceall --config output=build/bench
	$(BIN)/python -m psflib bench --output build/bench
	$(MAKE) peers
	$(BIN)/python benchmarks/chain.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/epsf.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/wings.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/haloes.py all --write docs/benchmarks.md
	$(BIN)/python benchmarks/matching.py all --write docs/benchmarks.md
	$(BIN)/python benchmarks/sfft.py all --write docs/benchmarks.md
	$(BIN)/python benchmarks/decorrelation.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/zogy.py all --write docs/benchmarks.md
	$(BIN)/python benchmarks/cosmics.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/registration.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/crowds.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/undersampled.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/weights.py --write docs/benchmarks.md
	$(BIN)/python benchmarks/candidates.py --write docs/benchmarks.md

peers: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r pyproject.toml --extra peers \
		--constraint requirements.lock || echo "the peers could not be installed: without them"

parity: $(READY) peers  ## the peers (noobase, STDPipe; HOTPANTS, if it is there) beside psflib, on the same arrays
	$(BIN)/python -m pytest tests/parity

names: $(READY)  ## docs/names.md from docs/names.yaml
	$(BIN)/python benchmarks/names.py

picture: demo  ## the picture of the README
	$(BIN)/python benchmarks/demo_picture.py results docs/images/demo.png

notebooks: demo  ## run every notebook without a browser, on the products of the demo
	$(BIN)/python -m pytest --nbmake --nbmake-timeout=300 notebooks

schema: $(READY)  ## the JSON schema of config.yaml, for editors
	$(BIN)/python -m psflib schema --output workflow/schemas/config.schema.json

lock: $(READY)  ## pin all dependencies again, with hashes, for every supported Python
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--extra asdf --extra workflow --extra notebooks --extra dev --no-header pyproject.toml \
		-o requirements.lock

# The browser test skips without a browser, so that a machine without apt-get can run the rest.
browser:
	@command -v chromium chromium-browser google-chrome >/dev/null && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing chromium for the browser test"; \
		( apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
			apt-get install -y -qq --no-install-recommends chromium ) >/dev/null 2>&1 \
			|| echo "chromium could not be installed: the browser test will be skipped"; \
	else \
		echo "no chromium found: the browser test will be skipped"; \
	fi

clean:  ## remove products, caches and the virtual environment
	rm -rf $(VENV) results build .snakemake .pytest_cache .mypy_cache .ruff_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
