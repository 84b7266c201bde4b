#!/usr/bin/env bash
# Compiles the program: build/binary/email-scheduler, one file that is schedd, schedctl and the commands on the machine
# by the name it is called with, and build/binary/folder/, the same unpacked (what the image uses: docs/PERFORMANCE.md).
#
# From the built wheel in an environment of its own, never from the source tree: what is compiled is what is installed.
# Does nothing when the binary is that of the present sources.
set -euo pipefail
cd "$(dirname "$0")/.."
tools/setup.sh

build="$PWD/build/binary"
wanted=$(find protocol bucket client daemon deploy/binary requirements/runtime.txt requirements/build.txt pyproject.toml tools/binary.sh \
  -type f ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
# What is in the program, from its lock file, the packages' metadata and Nuitka's report.
write_bill_of_materials() {
  .venv/bin/python tools/sbom.py --report "$build/report.xml" --installed "$build/installed.json" \
    --out "$build/sbom.cdx.json"
}

if [ -f "$build/.stamp" ] && [ "$(cat "$build/.stamp")" = "$wanted" ]; then
  write_bill_of_materials
  exit 0
fi

# A C compiler, and objdump and readelf beside it, with which Nuitka finds the libraries that are needed.
missing=()
command -v gcc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v readelf >/dev/null 2>&1 || missing+=(binutils)
headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] || missing+=(python3-dev)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "A C compiler and Python's headers are needed. On Debian: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  echo "Installing ${missing[*]} ..." >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

rm -rf "$build"
mkdir -p "$build"
log="$build/build.log"
python="$build/venv/bin/python"
echo "Compiling (some minutes; the log is $log) ..." >&2
started=$SECONDS
failed() {
  tail -n 30 "$log" >&2
  echo "Compiling failed; the lines above say why, the whole log is $log." >&2
  exit 1
}

{
  .venv/bin/python -m build --wheel --no-isolation --outdir "$build/wheel" . &&
    .venv/bin/python -m venv "$build/venv" &&
    "$python" -m pip install --disable-pip-version-check --require-hashes -r requirements/runtime.txt \
      --report "$build/installed.json" &&
    "$python" -m pip install --disable-pip-version-check --require-hashes -r requirements/build.txt &&
    "$python" -m pip install --disable-pip-version-check --no-deps "$build"/wheel/*.whl
} >"$log" 2>&1 || failed

flags=(
  # One file, made from a folder with everything in it; the folder is kept beside it.
  --mode=onefile
  --output-dir="$build"
  # Not the name of a package: a file and the folder of a package's data could not both be called that.
  --output-filename=email-scheduler
  # Modules that are loaded by name when their command or their worker is: nothing imports them for Nuitka to see.
  --include-package=schedproto
  --include-package=schedbucket
  --include-package=schedclient
  --include-package=schedctl
  --include-package=schedd
  # The time zones of contacts' states, so that the machine needs no package for them.
  --include-package=tzdata
  # The certificates for HTTPS, for the same reason; certifi finds its file by its own place.
  --include-package-data=certifi
  # A worker is this program again, begun with -c; only this mode lets it be begun so.
  --deployment
  # Nothing of the machine's own Python and its variables changes what the program does.
  --python-flag=isolated
  # What is never reached: colours for source code (half of all modules), NumPy's tools for Fortran and for tests.
  --nofollow-import-to=pygments
  --nofollow-import-to=markdown_it
  --nofollow-import-to=numpy.f2py
  --nofollow-import-to=numpy.testing
  --nofollow-import-to="*.tests"
  --nofollow-import-to=setuptools
  --nofollow-import-to=pytest
  --nofollow-import-to=IPython
  # The file unpacks itself once for each build and user and finds that again: no temporary folders that a kill
  # could leave behind, and no unpacking at every start.
  --onefile-tempdir-spec="{CACHE_DIR}/email-scheduler/${wanted:0:16}"
  # The daemon ends its jobs in its own time (`drain`); by default it would be killed five seconds after a signal.
  --onefile-child-grace-time=infinity
  # Unpacked once, so its size matters less than the time that takes; the wheel's libraries hardly shrink.
  --onefile-no-compression
  # Nothing is fetched from anywhere while it compiles, and nobody is asked.
  --assume-yes-for-downloads
  --update-check=never
  # Two for two cores: more would only take memory.
  --jobs="$(nproc)"
  --report="$build/report.xml"
)
PATH="$build/venv/bin:$PATH" "$python" -m nuitka "${flags[@]}" --main=deploy/binary/main.py </dev/null >>"$log" 2>&1 || failed

mv "$build/main.dist" "$build/folder"
mv "$build/folder/email-scheduler.bin" "$build/folder/email-scheduler"
# The folder under the commands' names, as the image has them.
for name in schedd schedctl scheduler-help db-info run-reliable-scheduler run-highperf-scheduler; do
  ln -sf email-scheduler "$build/folder/$name"
done
rm -rf "$build/main.build" "$build/main.onefile-build"
write_bill_of_materials
printf '%s' "$wanted" >"$build/.stamp"
echo "$((SECONDS - started))" >"$build/seconds"
echo "$build/email-scheduler: $(du -m "$build/email-scheduler" | cut -f1) MB, folder $(du -sm "$build/folder" | cut -f1) MB," \
  "$((SECONDS - started)) s" >&2
