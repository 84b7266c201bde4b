#!/usr/bin/env bash
# Compile the program into one file, build/binary/email-scheduler, and into a folder, build/binary/folder/.
#
# The program acts as schedd, schedctl or one of the machine's commands, depending on the name it is called with. The
# image uses the folder (docs/PERFORMANCE.md says why). The input is the built wheel, installed in a separate virtual
# environment, not the source tree: so what is compiled is what is installed. Does nothing if the sources are unchanged.
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

# Nuitka needs a C compiler, and objdump and readelf to find the libraries that an extension needs.
missing=()
command -v gcc >/dev/null 2>&1 || missing+=(gcc libc6-dev)
command -v readelf >/dev/null 2>&1 || missing+=(binutils)
headers=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ -f "$headers/Python.h" ] || missing+=(python3-dev)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "A C compiler and Python's headers are required. On Debian: apt-get install ${missing[*]}" >&2
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
echo "Compiling (takes some minutes; log: $log) ..." >&2
started=$SECONDS
failed() {
  tail -n 30 "$log" >&2
  echo "Compiling failed; the lines above say why. Complete log: $log" >&2
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
  # One file, made from a folder with everything in it; the folder is kept next to it.
  --mode=onefile
  --output-dir="$build"
  # Not the name of a package: the folder with that package's data has the name already.
  --output-filename=email-scheduler
  # Modules that a command or a worker loads by name: Nuitka sees no import of them.
  --include-package=schedproto
  --include-package=schedbucket
  --include-package=schedclient
  --include-package=schedctl
  --include-package=schedd
  # Time zones, so that the machine does not need a package for them.
  --include-package=tzdata
  # Certificates for HTTPS, for the same reason; certifi finds the file next to its module.
  --include-package-data=certifi
  # A worker is this program, started with -c; only this mode allows that.
  --deployment
  # Ignore the machine's own Python and the PYTHON* variables.
  --python-flag=isolated
  # Never used at run time: syntax highlighting (half of all modules), NumPy's tools for Fortran and for tests.
  --nofollow-import-to=pygments
  --nofollow-import-to=markdown_it
  --nofollow-import-to=numpy.f2py
  --nofollow-import-to=numpy.testing
  --nofollow-import-to="*.tests"
  --nofollow-import-to=setuptools
  --nofollow-import-to=pytest
  --nofollow-import-to=IPython
  # Unpack the file once per build and user, and reuse the folder: no unpacking at every start, and no temporary
  # folders that a kill leaves behind.
  --onefile-tempdir-spec="{CACHE_DIR}/email-scheduler/${wanted:0:16}"
  # The daemon needs time to end its jobs (`drain`); by default it is killed five seconds after a signal.
  --onefile-child-grace-time=infinity
  # The file is unpacked once, so speed matters more than size; and the libraries hardly shrink.
  --onefile-no-compression
  # No downloads and no prompts during the compilation.
  --assume-yes-for-downloads
  --update-check=never
  # One compiler process per core: more would only use memory.
  --jobs="$(nproc)"
  --report="$build/report.xml"
)
PATH="$build/venv/bin:$PATH" "$python" -m nuitka "${flags[@]}" --main=deploy/binary/main.py </dev/null >>"$log" 2>&1 || failed

mv "$build/main.dist" "$build/folder"
mv "$build/folder/email-scheduler.bin" "$build/folder/email-scheduler"
# Links in the folder for the commands, as in the image.
for name in schedd schedctl scheduler-help db-info run-reliable-scheduler run-highperf-scheduler; do
  ln -sf email-scheduler "$build/folder/$name"
done
rm -rf "$build/main.build" "$build/main.onefile-build"
write_bill_of_materials
printf '%s' "$wanted" >"$build/.stamp"
echo "$((SECONDS - started))" >"$build/seconds"
echo "$build/email-scheduler: $(du -m "$build/email-scheduler" | cut -f1) MB, folder $(du -sm "$build/folder" | cut -f1) MB," \
  "$((SECONDS - started)) s" >&2
