#!/usr/bin/env bash
# Builds the engine aside with ThreadSanitizer, which reports data races, and runs recorded networks, the tests of
# threads and streams, and recorded programs on that library.
set -euo pipefail
cd "$(dirname "$0")/.."

BUILD=build/thread-sanitizer
BIN=.venv/bin
PATH="$PWD/$BIN:$PATH"
SETS=avx2
case $(uname -m) in x86_64) ;; *) SETS= ;; esac

for tool in cmake g++; do
  command -v $tool >/dev/null || { echo "thread_sanitizer: skipped, there is no $tool" >&2; exit 0; }
done
RUNTIME="$(g++ -print-file-name=libtsan.so)"
[ -e "$RUNTIME" ] || { echo "thread_sanitizer: skipped, g++ has no ThreadSanitizer" >&2; exit 0; }

CXX=g++ cmake -S . -B $BUILD -DONEBRANCH_SANITIZE=thread -DONEBRANCH_REPLAY=ON "-DONEBRANCH_SETS=$SETS" >$BUILD.log
cmake --build $BUILD --parallel 2 >>$BUILD.log 2>&1 || { cat $BUILD.log >&2; exit 1; }
export PYTHONPATH=src:tests:.
$BIN/python tests/engine_cases.py $BUILD/cases.bin
$BIN/python tests/program_cases.py write $BUILD

# A race ends the program with this exit code.
export TSAN_OPTIONS=halt_on_error=1:exitcode=66
$BUILD/replay $BUILD/cases.bin
# Python and its packages are not built with the sanitizer, so its runtime comes first; PyTorch does not run with it.
export ONEBRANCH_ENGINE_LIBRARY="$PWD/$BUILD/libonebranch_engine.so"
LD_PRELOAD=$RUNTIME $BIN/python tests/program_cases.py run $BUILD
LD_PRELOAD=$RUNTIME $BIN/python -m pytest -p no:xdist tests/test_engine.py -k "thread or pieces or stream"
