#!/usr/bin/env bash
# Create .venv with everything that the project needs. Works on any machine with Python 3.11 or newer.
#
# Does nothing if .venv already matches the lock files and this folder. An interrupted set-up leaves no stamp, so the
# next one starts again with an empty .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

venv="$PWD/.venv"
stamp="$venv/.stamp"
wanted="$PWD $(cat requirements/dev.txt pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1)"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
  exit 0
fi

usable() { # Python 3.11 or newer that can create virtual environments
  command -v "$1" >/dev/null 2>&1 &&
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}
find_python() {
  for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3 python3.14; do
    if [ -n "$candidate" ] && usable "$candidate"; then
      command -v "$candidate"
      return 0
    fi
  done
  return 1
}

if ! python=$(find_python); then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Python (python3, python3-venv) ..." >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3 python3-venv ca-certificates >&2
    python=$(find_python) || { echo "The installed Python is older than 3.11; set PYTHON to a newer one." >&2; exit 1; }
  else
    echo "Python 3.11 or newer with the venv module is required. On Debian: apt-get install python3 python3-venv" >&2
    echo "Or set one: PYTHON=/path/to/python3 make ..." >&2
    exit 1
  fi
fi

echo "Setting up .venv with $("$python" --version) ..." >&2
rm -rf "$venv"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! {
  "$python" -m venv "$venv" &&
    "$venv/bin/python" -m pip install --disable-pip-version-check --require-hashes -r requirements/dev.txt &&
    "$venv/bin/python" -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
} >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "Setting up .venv failed; the lines above say why. pip needs a reachable package index." >&2
  exit 1
fi
printf '%s' "$wanted" >"$stamp"
