#!/usr/bin/env bash
# Builds the wheel of this machine's platform into dist/, from the sources or from the sdist that is the first argument,
# installs it into a fresh environment where no compiler is in sight, runs it there and measures its size. Then the
# same without the engine: what is installed where nothing can be compiled.
set -euo pipefail
cd "$(dirname "$0")/.."

SOURCE=${1:-.}
BIN=$PWD/.venv/bin
FRESH=$PWD/build/fresh
rm -rf build/wheels $FRESH
mkdir -p build/wheels dist

ONEBRANCH_ENGINE_REQUIRED=1 $BIN/python -m pip wheel --quiet --no-deps --no-build-isolation -w build/wheels "$SOURCE"
if [ "$(uname -s)" = Linux ]; then
  rm -f dist/onebranch-*-py3-none-manylinux*.whl
  PATH="$BIN:$PATH" $BIN/auditwheel repair -w dist build/wheels/onebranch-*.whl >build/auditwheel.log 2>&1 ||
    { cat build/auditwheel.log >&2; exit 1; }
  wheel=$(ls dist/onebranch-*-py3-none-manylinux*.whl)
else
  cp build/wheels/onebranch-*.whl dist/
  wheel=$(ls dist/onebranch-*-py3-none-[!a]*.whl)
fi
echo "$wheel"

# What a user without a compiler does: pip install WHEEL, then onebranch enhance photo.jpg.
$BIN/python -m venv $FRESH
PATH=$FRESH/bin $FRESH/bin/python -m pip install --quiet -c constraints.txt "$wheel"
cd build
PATH=$FRESH/bin $FRESH/bin/python ../scripts/check_installation.py base

# With ONNX Runtime: both must agree.
PATH=$FRESH/bin $FRESH/bin/python -m pip install --quiet -c ../constraints.txt "../$wheel[onnx]"
PATH=$FRESH/bin $FRESH/bin/python ../scripts/check_installation.py engine

# No compiler, no CMake, no result of an earlier build.
PATH=$FRESH/bin ONEBRANCH_ENGINE_REQUIRED=0 $FRESH/bin/python -m pip install --quiet --no-deps --force-reinstall \
  -C build-dir=build/bare ..
PATH=$FRESH/bin $FRESH/bin/python ../scripts/check_installation.py none
