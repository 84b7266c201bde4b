#!/usr/bin/env bash
# Check that every locked package can be installed on every supported Python without a compiler.
#
# Resolves requirements/runtime.txt for each version, with hashes and wheels only, and downloads nothing but the
# wheels, into a temporary folder. Arguments: versions, by default those of pyproject.toml's classifiers; with
# LOCK=dev also the development tools.
set -euo pipefail
cd "$(dirname "$0")/.."

lock="requirements/${LOCK:-runtime}.txt"
if [ $# -gt 0 ]; then
  versions=("$@")
else
  mapfile -t versions < <(sed -n 's/.*"Programming Language :: Python :: \(3\.[0-9]*\)".*/\1/p' pyproject.toml)
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
failed=0
for version in "${versions[@]}"; do
  log="$folder/$version.log"
  if .venv/bin/python -m pip download --disable-pip-version-check --quiet --no-deps --only-binary=:all: --require-hashes \
    --implementation cp --python-version "$version" --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux_2_12_x86_64 --platform linux_x86_64 \
    --dest "$folder/$version" -r "$lock" >"$log" 2>&1; then
    echo "Python $version: $(find "$folder/$version" -type f | wc -l) wheels for $lock"
  else
    grep -E '^ERROR' "$log" >&2 || tail -n 5 "$log" >&2
    echo "Python $version: not all packages of $lock have a wheel" >&2
    failed=1
  fi
  rm -rf "${folder:?}/$version"
done
exit "$failed"
