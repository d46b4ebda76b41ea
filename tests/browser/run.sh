#!/bin/sh
# Test the page in a real browser: sh run.sh PYTHON. What is missing is named, and nothing fails.
set -eu
PYTHON=$(realpath -s "$1")
cd "$(dirname "$0")"

for program in node npm; do
    command -v "$program" >/dev/null || { echo "skipped: $program not found"; exit 0; }
done
CHROMIUM=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$CHROMIUM" ] || { echo "skipped: chromium not found"; exit 0; }
cmp -s package-lock.json node_modules/installed || {
    npm ci --no-audit --no-fund || { echo "skipped: npm could not install the packages"; exit 0; }
    cp package-lock.json node_modules/installed
}
PYTHONPATH=$(realpath ../..) "$PYTHON" ../../scripts/fetch_web_runtime.py || {
    echo "skipped: the exported page, which needs the browser's runtime"
    export NO_RUNTIME=1
}
PYTHON="$PYTHON" CHROMIUM="$CHROMIUM" exec npm test --silent
