#!/usr/bin/env bash
# Build the image from the Dockerfile without Docker, and check that it works.
#
# Uses buildah with chroot isolation, and a base image that debootstrap creates. Needs root; installs missing tools.
# The base image gets this machine's settings for apt, pip and certificates, so that packages come from the same
# sources as here. The image that Fly builds has none of these settings.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" != 0 ]; then
  echo "make image-check requires root, because it creates a Debian root file system." >&2
  exit 1
fi
work="$PWD/build/image"
mkdir -p "$work"
log="$work/build.log"
: >"$log"
failed() {
  tail -n 30 "$log" >&2
  echo "The image could not be checked; the lines above say why. Complete log: $log" >&2
  exit 1
}

missing=()
for tool in buildah debootstrap; do command -v "$tool" >/dev/null 2>&1 || missing+=("$tool"); done
command -v crun >/dev/null 2>&1 || command -v runc >/dev/null 2>&1 || missing+=(crun)
if [ ${#missing[@]} -gt 0 ]; then
  echo "Installing ${missing[*]} ..." >&2
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } >>"$log" 2>&1 || failed
fi

# buildah's storage takes gigabytes: keep it in build/ instead of the machine's own store, and remove it afterwards.
rm -rf "$work/store" "$work/run"
trap 'rm -rf "$work/store" "$work/run"' EXIT
buildah() { command buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"; }

base="$work/base"
if [ ! -e "$base/.complete" ]; then
  echo "Creating a Debian root file system (debootstrap) ..." >&2
  rm -rf "$base"
  debootstrap --variant=minbase bookworm "$base" >>"$log" 2>&1 || failed
  touch "$base/.complete"
fi
# This machine's package sources: apt's sources, certificates, pip's settings and the local folders they name.
rm -rf "$base/etc/apt/sources.list.d"
cp -a /etc/apt/sources.list.d "$base/etc/apt/" 2>/dev/null || true
if [ -e /etc/apt/sources.list ]; then cp /etc/apt/sources.list "$base/etc/apt/"; else : >"$base/etc/apt/sources.list"; fi
cp -a /etc/apt/apt.conf.d/. "$base/etc/apt/apt.conf.d/"
mkdir -p "$base/usr/share/keyrings"
cp -a /usr/share/keyrings/. "$base/usr/share/keyrings/"
settings=()
mounts=()
while IFS='=' read -r name value; do settings+=(--env "$name=$value"); done < <(env | grep -E '^(PIP_|https?_proxy|HTTPS?_PROXY|no_proxy|NO_PROXY)' || true)
for file in /etc/pip.conf "$HOME/.config/pip/pip.conf" "$HOME/.pip/pip.conf"; do
  if [ -e "$file" ]; then mkdir -p "$base/etc" && cat "$file" >"$base/etc/pip.conf"; fi
done
while read -r folder; do
  if [ -d "$folder" ]; then mounts+=(--volume "$folder:$folder:ro"); fi
done < <({ cat "$base/etc/pip.conf" 2>/dev/null; env | grep '^PIP_'; } | grep -oE '(file://)?/[A-Za-z0-9_./-]+' | sed 's,^file://,,; s,/simple/*$,,' | grep -v '\.crt$\|\.pem$' | sort -u || true)
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then
  cp /etc/ssl/certs/ca-certificates.crt "$base/etc/machine-certificates.crt"
  settings+=(--env PIP_CERT=/etc/machine-certificates.crt)
fi

echo "Building the image (takes some minutes; log: $log) ..." >&2
{
  container=$(buildah from scratch) &&
    buildah add --quiet "$container" "$base" / &&
    buildah config "${settings[@]}" "$container" &&
    buildah commit --quiet --rm "$container" localhost/debian:bookworm-slim &&
    buildah build --isolation chroot --network host --pull-never "${mounts[@]}" \
      --build-arg BASE=localhost/debian:bookworm-slim --build-arg APT_SNAPSHOT=0 --tag email-scheduler --file Dockerfile .
} >>"$log" 2>&1 || failed

container=$(buildah from --pull-never localhost/email-scheduler)
root=$(buildah mount "$container")
echo "Starting the image ..." >&2
buildah inspect "$container" >"$work/image.json"
.venv/bin/python tools/image_check.py "$root" "$work/image.json" || {
  echo "The image failed a check; the lines above say which." >&2
  exit 1
}
echo "The image works: $(du -sm "$root" | cut -f1) MB, /app $(du -sm "$root/app" | cut -f1) MB."
