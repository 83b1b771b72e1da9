#!/usr/bin/env bash
# Builds the engine aside with AddressSanitizer and UndefinedBehaviorSanitizer and runs its tests on that library.
# The byte dot product of avx2_vnni and the products of tiles of avx512_amx are computed by their definitions, so that
# these sets run on every processor with AVX2.
# What follows the script's name goes to pytest. SETS: the sets of instructions to build (all: every one; slow).
set -euo pipefail
cd "$(dirname "$0")/.."

SETS=${SETS-avx512_amx;avx512_bf16;avx2_vnni;avx2}
[ "$SETS" = all ] && SETS=
case $(uname -m) in x86_64) ;; *) SETS= ;; esac
BUILD=build/sanitize
BIN=.venv/bin
PATH="$PWD/$BIN:$PATH"

for tool in cmake g++; do
  command -v $tool >/dev/null || { echo "sanitize: skipped, there is no $tool" >&2; exit 0; }
done

CXX=g++ cmake -S . -B $BUILD -DONEBRANCH_SANITIZE=address,undefined -DONEBRANCH_REPLAY=ON \
  -DONEBRANCH_MODELS=ON "-DONEBRANCH_SETS=$SETS" >$BUILD.log
cmake --build $BUILD --parallel 2 >>$BUILD.log 2>&1 || { cat $BUILD.log >&2; exit 1; }

# Without Python first: here leaks are counted, too.
PYTHONPATH=src:tests:. $BIN/python tests/engine_cases.py $BUILD/cases.bin
UBSAN_OPTIONS=print_stacktrace=1 $BUILD/replay $BUILD/cases.bin

# Python is not built with the sanitizers, so their runtime comes first; Python keeps memory to its end.
# One test limits memory, of which the sanitizers reserve much.
export ONEBRANCH_ENGINE_LIBRARY="$PWD/$BUILD/libonebranch_engine.so"
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
export UBSAN_OPTIONS=print_stacktrace=1
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" \
  $BIN/python -m pytest -n "${WORKERS:-2}" tests/test_engine*.py \
  --deselect tests/test_engine.py::test_a_failed_allocation_inside_is_an_error "$@"
