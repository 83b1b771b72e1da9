#!/usr/bin/env bash
# Builds the image of the service, starts it with a read-only file system, and enhances a picture in it. Without a
# running Docker it says so.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! docker info >/dev/null 2>&1; then
  echo "docker: skipped, because no Docker runs here; tests/test_dockerfile.py checks the file itself" >&2
  exit 0
fi
docker build --quiet --tag onebranch-test . >/dev/null
NAME=onebranch-test-$$
trap 'docker rm --force "$NAME" >/dev/null' EXIT
docker run --detach --name "$NAME" --publish 127.0.0.1::8000 --read-only --tmpfs /tmp:size=1g --cap-drop ALL \
  --security-opt no-new-privileges onebranch-test >/dev/null
ADDRESS=$(docker port "$NAME" 8000 | head -1)
for _ in $(seq 60); do curl -sf "http://$ADDRESS/readyz" >/dev/null && break; sleep 0.5; done
curl -sf -H 'Content-Type: image/png' --data-binary @tests/data/flowers.png "http://$ADDRESS/v1/enhance" | head -c 8 |
  grep -aq PNG
echo "docker: the image enhances pictures at http://$ADDRESS with a read-only file system"
docker stop --time 40 "$NAME" >/dev/null
test "$(docker inspect --format '{{.State.ExitCode}}' "$NAME")" = 0
