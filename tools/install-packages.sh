#!/bin/sh
# Installs Debian packages in exact versions (NAME=VERSION ...) while an image is built.
#
# They and what they depend on come from the snapshot of Debian's archive of the day on which the base image was made:
# the base image's sources name it in a comment. With APT_SNAPSHOT=0, from the archive as it is today, in the versions
# that it has today: `make image-check` does so where no snapshot can be reached.
set -eu
sources=/etc/apt/sources.list.d/debian.sources
if [ "${APT_SNAPSHOT:-1}" = 1 ]; then
  if ! grep -q '^# https\?://' "$sources"; then
    echo "$sources names no snapshot; use a base image by its digest, or APT_SNAPSHOT=0." >&2
    exit 1
  fi
  cp "$sources" "$sources.archive"
  # The comment becomes the address, and the line with the archive's own address goes.
  sed -i -E '/^# https?:/{s/^# /URIs: /;n;d}' "$sources"
  # An old snapshot's index has expired: what it was signed for is that day.
  apt-get -o Acquire::Check-Valid-Until=false update
  apt-get install -y --no-install-recommends "$@"
  mv "$sources.archive" "$sources"
else
  apt-get update
  for package; do
    shift
    set -- "$@" "${package%%=*}"
  done
  apt-get install -y --no-install-recommends "$@"
fi
rm -rf /var/lib/apt/lists/*
