#!/usr/bin/env bash
# Builds the sdist and, from it, this machine's wheel into dist/, and checks both. It publishes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

BIN=$PWD/.venv/bin
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
  echo "release: uncommitted changes would be released; commit them first" >&2
  exit 1
fi
mkdir -p build
rm -rf dist
PATH="$BIN:$PATH" $BIN/python -m build --sdist --no-isolation --outdir dist . >build/sdist.log 2>&1 ||
  { cat build/sdist.log >&2; exit 1; }
scripts/build_wheel.sh dist/onebranch-*.tar.gz
$BIN/python scripts/check_release.py dist
