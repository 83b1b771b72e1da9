#!/usr/bin/env bash
# What the browser tests need beside Python packages: Chromium and node, as root from Debian where they are missing,
# and axe-core from npm, which checks pages for accessibility. Tests of what cannot be had are skipped with a reason.
set -euo pipefail
cd "$(dirname "$0")/.."

AXE=axe-core@4.14.1
BUILD=build/wasm
mkdir -p $BUILD

install() { # install COMMAND PACKAGE...
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "wasm: there is no $1; install ${*:2} for all of its tests" >&2
    return
  fi
  { apt-get update -q && apt-get install -q -y --no-install-recommends "${@:2}"; } >$BUILD/$1.log 2>&1 ||
    { cat $BUILD/$1.log >&2; exit 1; }
}

install chromium chromium
install node nodejs
install npm npm

if [ ! -f $BUILD/axe.min.js ] && command -v npm >/dev/null; then
  (cd $BUILD && npm pack --silent $AXE >/dev/null && tar -xzf axe-core-*.tgz package/axe.min.js &&
    mv package/axe.min.js . && rm -r package axe-core-*.tgz) ||
    echo "wasm: $AXE cannot be fetched; accessibility is not checked" >&2
fi
