#!/usr/bin/env bash
# Write requirements/*.txt: every package with its version and hashes, and no addresses.
set -euo pipefail
cd "$(dirname "$0")/.."
export CUSTOM_COMPILE_COMMAND="make lock"
options=(--quiet --strip-extras --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host)
.venv/bin/pip-compile "${options[@]}" "$@" -o requirements/client.txt pyproject.toml
.venv/bin/pip-compile "${options[@]}" "$@" --extra daemon -o requirements/runtime.txt pyproject.toml
.venv/bin/pip-compile "${options[@]}" "$@" --allow-unsafe -o requirements/dev.txt requirements/dev.in
.venv/bin/pip-compile "${options[@]}" "$@" --allow-unsafe -o requirements/build.txt requirements/build.in
