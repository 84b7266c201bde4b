#!/usr/bin/env bash
# Install Chromium, Debian's package, for the tests of the report, if it is missing.
set -euo pipefail

if command -v chromium >/dev/null 2>&1; then
  exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing Chromium for the tests of the report ..." >&2
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  if ! {
    apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
  } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "Installing Chromium failed; the lines above say why." >&2
    exit 1
  fi
  exit 0
fi
echo "The tests of the report require Chromium. On Debian: apt-get install --no-install-recommends chromium" >&2
exit 1
