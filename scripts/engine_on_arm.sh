#!/usr/bin/env bash
# Cross-compiles the engine for 64-bit ARM and replays recorded cases under an emulator: once with the dot product
# of bytes, once on a processor without it. As root it installs compiler and emulator from Debian.
set -euo pipefail
cd "$(dirname "$0")/.."

BUILD=build/arm
PATH="$PWD/.venv/bin:$PATH"
PACKAGES="g++-aarch64-linux-gnu qemu-user"

missing() { ! command -v aarch64-linux-gnu-g++ >/dev/null || ! command -v qemu-aarch64 >/dev/null; }

if missing; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "arm: skipped; install $PACKAGES" >&2
    exit 0
  fi
  mkdir -p build
  { apt-get update -q && apt-get install -q -y --no-install-recommends $PACKAGES; } >$BUILD.log 2>&1 ||
    { cat $BUILD.log >&2; exit 1; }
fi

# -O1: the same intrinsics in a third of the time.
CXX=aarch64-linux-gnu-g++ cmake -S . -B $BUILD -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS=-O1 -DONEBRANCH_REPLAY=ON >$BUILD.log
cmake --build $BUILD --parallel 2 >>$BUILD.log 2>&1 || { cat $BUILD.log >&2; exit 1; }

PYTHONPATH=src:tests:. python tests/engine_cases.py $BUILD/cases.bin
run() { qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$1" $BUILD/replay $BUILD/cases.bin "${@:2}"; }
run max neon-dot neon portable
run cortex-a53 # without the dot product: it must find that out by itself
