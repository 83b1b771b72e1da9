#!/usr/bin/env bash
# Installs what runs mpv shaders in the slow tests: ffmpeg with the filter libplacebo, and Mesa's software Vulkan
# driver. As root it installs both from Debian; otherwise it says what is missing, and the tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES="ffmpeg mesa-vulkan-drivers"
LOG=build/ffmpeg.log

runs() {
  command -v ffmpeg >/dev/null &&
    ffmpeg -v error -init_hw_device vulkan=vk:0 -filter_hw_device vk -f lavfi -i color=s=16x16:d=0.04 \
      -vf hwupload,libplacebo=format=yuv420p,hwdownload,format=yuv420p -f null - 2>/dev/null
}

if runs; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "mpv shaders are not run; install $PACKAGES" >&2
  exit 0
fi
mkdir -p build
{ apt-get update -q && apt-get install -q -y --no-install-recommends $PACKAGES; } >$LOG 2>&1 || { cat $LOG >&2; exit 1; }
runs || echo "mpv shaders are not run: ffmpeg finds no Vulkan device or has no libplacebo" >&2
