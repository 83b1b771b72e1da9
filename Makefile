# `make help` lists the targets. CI runs `make check test slow readme native wasm docs`, nothing else.
# Everything is installed into .venv; a stamp file there is renewed when a dependency, a pin or the engine changes.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python3.14,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))

WORKERS ?= 2
FUZZ_SECONDS ?= 20
SOAK_SECONDS ?= 1800
LOAD_SECONDS ?= 600
PORT ?= 8000
DEVICE ?= cpu
LIMIT ?=
DATA ?=
BENCH ?= inference
UPDATE ?=

# What an installation is made from, beside Python files.
ENGINE := CMakeLists.txt $(wildcard src/engine/*.cpp src/engine/*.h)
# Where there is a compiler, an engine that does not compile is an error; elsewhere the package goes without it.
export ONEBRANCH_ENGINE_REQUIRED ?= $(if $(shell command -v c++ g++ clang++),1,0)

export OMP_NUM_THREADS ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: wasm ladder ladder-status ladder-pause ladder-resume study figures help demo test check slow readme docs serve docker load bench native sanitize arm wheel release soak clean

help: ## list the targets
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

demo: $(VENV)/base.stamp ## double a photograph, compare it with bicubic (no PyTorch is installed)
	env -u OMP_NUM_THREADS $(BIN)/onebranch demo

test: $(VENV)/dev.stamp ## the tests, in under ten minutes on two cores
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

check: $(VENV)/dev.stamp ## lint, format, types, layers, duplicate names, complexity, words
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/duplicate_names.py
	$(BIN)/python scripts/complexity.py
	$(BIN)/python scripts/words.py
	$(BIN)/clang-format --dry-run -Werror src/engine/*.h src/engine/*.cpp src/engine/tests/*.cpp

slow: $(VENV)/cluster.stamp ## the slow tests, fuzzing for a fixed time (FUZZ_SECONDS)
	scripts/install_ffmpeg.sh
	ONEBRANCH_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -m slow -n $(WORKERS) --dist worksteal
	scripts/docker.sh

soak: $(VENV)/dev.stamp ## the slow tests with new random inputs and a long fuzzing time (SOAK_SECONDS)
	HYPOTHESIS_PROFILE=soak ONEBRANCH_FUZZ_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -m slow -n $(WORKERS) -o timeout=0

readme: $(VENV)/dev.stamp ## run the commands of the README, of the Start page and of the guides in one folder
	$(BIN)/python scripts/run_readme.py README.md docs/start.md docs/guides/enhance.md docs/guides/run-anywhere.md docs/guides/train.md

docs: $(VENV)/dev.stamp ## the documentation site, into build/site; a warning is an error
	$(BIN)/python -m sphinx -q -E -W --keep-going -d build/doctrees -b html docs build/site

ladder: $(VENV)/dev.stamp ## train the recipes of models/ladder.toml in the background, resumable (DEVICE=cuda LIMIT=540)
	nice -n 19 $(BIN)/python scripts/ladder.py run --device $(DEVICE) $(if $(LIMIT),--limit $(LIMIT)) $(if $(DATA),--data $(DATA))

ladder-status ladder-pause ladder-resume: $(VENV)/dev.stamp
	@$(BIN)/python scripts/ladder.py $(@:ladder-%=%)

study: $(VENV)/dev.stamp ## the page and the plot of the study of branches, from the logs of its runs and the times of its arms
	$(BIN)/python scripts/study.py report

figures: $(VENV)/dev.stamp ## the plot of quality against speed in the documentation, measured on this machine
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks quality --plot docs/pictures/quality-speed.png

serve: $(VENV)/serve.stamp ## the HTTP service on http://127.0.0.1:8000 (PORT)
	env -u OMP_NUM_THREADS $(BIN)/onebranch serve --port $(PORT)

docker: ## the service's image, built and tried, where Docker runs
	scripts/docker.sh

load: $(VENV)/dev.stamp ## mixed load on a service for LOAD_SECONDS, hostile requests included
	$(BIN)/python scripts/load.py --seconds $(LOAD_SECONDS)

bench: $(VENV)/dev.stamp ## compare with other programs: make bench BENCH='merging --json' (see python -m benchmarks -h)
	env -u OMP_NUM_THREADS $(BIN)/python -m benchmarks $(BENCH)

native: sanitize arm wheel ## the native engine's builds: the next three

sanitize: $(VENV)/dev.stamp ## its tests under AddressSanitizer and UndefinedBehaviorSanitizer, its threads under ThreadSanitizer
	scripts/sanitize.sh
	scripts/thread_sanitizer.sh

arm: $(VENV)/dev.stamp ## recorded cases on 64-bit ARM, under an emulator
	scripts/engine_on_arm.sh

wheel: $(VENV)/dev.stamp ## the wheel into dist/, installed and run where there is no compiler; and without it
	scripts/build_wheel.sh

wasm: $(VENV)/wasm.stamp ## the engine as WebAssembly and the page, in wasmtime, node and Chromium (UPDATE=--update)
	$(BIN)/python scripts/build_wasm.py $(UPDATE)
	scripts/install_browser.sh
	$(BIN)/python -m pytest -m wasm -n $(WORKERS)

release: $(VENV)/dev.stamp ## sdist and wheel into dist/, built and checked; publishes nothing
	scripts/build_release.sh

clean: ## remove caches and results; trained runs and .venv stay
	rm -rf build dist out demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: no Python 3.11 or later found; name one: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# Built in .venv, not in an environment that pip makes anew, so that only what has changed is compiled.
BUILD_TOOLS := scikit-build-core cmake ninja setuptools cffi
INSTALL := $(BIN)/python -m pip install --quiet -c constraints.txt
# Without a compiler there is no engine, and ONNX Runtime runs the models.
comma := ,
BASE_EXTRAS := $(if $(shell command -v c++ g++ clang++),,[onnx])

$(VENV)/base.stamp: pyproject.toml constraints.txt $(ENGINE) | $(BIN)/python
	$(INSTALL) $(BUILD_TOOLS)
	$(INSTALL) --no-build-isolation -e '.$(BASE_EXTRAS)'
	touch $@

$(VENV)/serve.stamp: $(VENV)/base.stamp
	$(INSTALL) --no-build-isolation -e '.$(if $(BASE_EXTRAS),[onnx$(comma)serve],[serve])'
	touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt tests/foreign.txt $(ENGINE) | $(BIN)/python
	$(INSTALL) $(BUILD_TOOLS)
	$(INSTALL) --no-build-isolation -e '.[train,dev,docs]'
	$(INSTALL) --no-deps -r tests/foreign.txt
	touch $@ $(VENV)/base.stamp $(VENV)/serve.stamp

$(VENV)/cluster.stamp: tests/cluster.txt constraints.txt $(VENV)/dev.stamp
	$(INSTALL) --no-build-isolation -e '.[cluster]' -r tests/cluster.txt
	touch $@

$(VENV)/wasm.stamp: tests/wasm.txt constraints.txt $(VENV)/dev.stamp
	$(INSTALL) -r tests/wasm.txt
	touch $@
