#!/usr/bin/env bash
# Train the queue for a while on a machine with a GPU, PyTorch, NumPy, Pillow, safetensors and rich, but without this
# package and without network:
#   scripts/ladder_on_gpu.sh PACKED OUT [SECONDS] [more options of scripts/ladder.py run]
# PACKED is what scripts/pack_pictures.py made. OUT/runs.tar.gz holds the runs afterwards; unpack it into the
# folder of `make ladder` (tar -xzf OUT/runs.tar.gz -C ~/.cache/onebranch/ladder), pack again, and go on.
# DEVICE=cpu tries the same without a GPU.
set -euo pipefail
packed=$(realpath "$1") out=$2 seconds=${3:-540}
shift $(($# < 3 ? $# : 3))
mkdir -p "$out"
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
if compgen -G "$packed/wheels/*.whl" > /dev/null; then
  "$python" -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$packed"/wheels/*.whl
  export PYTHONPATH="$PYTHONPATH:$work/site"
fi
export ONEBRANCH_LADDER="$work/ladder" PYTHONUNBUFFERED=1
mkdir -p "$work/ladder/runs"
[ ! -d "$packed/runs" ] || cp -r "$packed/runs/." "$work/ladder/runs/"
status=0
"$python" scripts/ladder.py run --device "${DEVICE:-cuda}" --limit "$seconds" --data "$packed" "$@" || status=$?
"$python" scripts/ladder.py status
tar -czf "$out/runs.tar.gz" -C "$work/ladder" runs
ls -l "$out"
exit "$status"
