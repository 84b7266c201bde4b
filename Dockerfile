# The machine's image: one compiled program under its names, and what an operator needs over SSH.
# `make image-check` builds it in a Debian of its own, without Docker, and starts the result.

# By digest: the tag says for people which one it is. docs/OPERATIONS.md, "Supply chain", says how to update it and the
# versions below, which are those of the snapshot of that day.
ARG BASE=debian:bookworm-20260918-slim@sha256:3783cc01769c7b2b1b83a5c5ad96c815348e28ed7da68e2e3687004faa906251

FROM ${BASE} AS build
# 0 installs from the archive as it is today instead of from the base image's snapshot of it.
ARG APT_SNAPSHOT=1
WORKDIR /build
COPY tools/install-packages.sh tools/
RUN APT_SNAPSHOT=$APT_SNAPSHOT tools/install-packages.sh \
      python3=3.11.2-1+b1 \
      python3-venv=3.11.2-1+b1 \
      python3-dev=3.11.2-1+b1 \
      gcc=4:12.2.0-3 \
      libc6-dev=2.36-9+deb12u14 \
      binutils=2.40-2
# What changes rarely comes first: packages are not downloaded again when the code changes.
COPY requirements requirements
COPY tools/setup.sh tools/binary.sh tools/sbom.py tools/components.py tools/supply_chain.toml tools/
COPY pyproject.toml README.md ./
COPY protocol protocol
COPY bucket bucket
COPY client client
COPY daemon daemon
COPY deploy/binary deploy/binary
RUN tools/binary.sh

FROM ${BASE}
ARG APT_SNAPSHOT=1
COPY tools/install-packages.sh /tmp/
# The program itself needs none of these.
RUN APT_SNAPSHOT=$APT_SNAPSHOT /tmp/install-packages.sh \
      sqlite3=3.40.1-2+deb12u2 \
      procps=2:4.0.2-3 \
      htop=3.2.2-2 \
      less=590-2.1~deb12u2 \
      vim-tiny=2:9.0.1378-2+deb12u2 \
 && rm /tmp/install-packages.sh \
 && useradd --system --create-home --home-dir /home/scheduler scheduler \
 && mkdir -p /data && chown scheduler:scheduler /data
# The unpacked form: it starts fastest, and nothing is unpacked on the slow root file system (docs/PERFORMANCE.md).
COPY --from=build /build/build/binary/folder /app
# What is in the program (CycloneDX); the image's Debian packages are listed by `dpkg-query -W`.
COPY --from=build /build/build/binary/sbom.cdx.json /usr/share/doc/email-scheduler/sbom.cdx.json
RUN for name in schedd schedctl scheduler-help db-info run-reliable-scheduler run-highperf-scheduler; do \
      ln -s "/app/$name" "/usr/local/bin/$name"; done \
 && printf 'scheduler-help\n' > /etc/profile.d/scheduler.sh
# A new volume belongs to root, whatever the image says of /data: the daemon starts as root, gives the volume to this
# user and drops its privileges before it listens (SCHEDD_USER).
ENV SCHEDD_DATA=/data SCHEDCTL_DATA=/data SCHEDD_USER=scheduler
VOLUME /data
# The daemon is process 1, so that it gets the signals itself.
CMD ["/usr/local/bin/schedd", "serve"]
