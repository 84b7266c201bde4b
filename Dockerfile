# The machine's image: one compiled program under its names, and what an operator needs over SSH.
# `make image-check` does these steps in a Debian of its own, without Docker, and starts what comes of them.

FROM debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      python3 python3-venv python3-dev gcc libc6-dev binutils \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
# What changes rarely comes first: the packages are not fetched anew for a change of the code.
COPY requirements requirements
COPY tools/setup.sh tools/binary.sh tools/
COPY pyproject.toml README.md ./
COPY protocol protocol
COPY bucket bucket
COPY client client
COPY daemon daemon
COPY deploy/binary deploy/binary
RUN tools/binary.sh

FROM debian:bookworm-slim
# The program itself needs none of these.
RUN apt-get update \
 && apt-get install -y --no-install-recommends sqlite3 procps htop less vim-tiny \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --create-home --home-dir /home/scheduler scheduler \
 && mkdir -p /data && chown scheduler:scheduler /data
# The unpacked form: it starts fastest, and nothing is unpacked on the slow root file system (docs/PERFORMANCE.md).
COPY --from=build /build/build/binary/folder /app
RUN for name in schedd schedctl scheduler-help db-info run-reliable-scheduler run-highperf-scheduler; do \
      ln -s "/app/$name" "/usr/local/bin/$name"; done \
 && printf 'scheduler-help\n' > /etc/profile.d/scheduler.sh
# A new volume belongs to root, whatever the image says of /data: the daemon starts as root, gives the volume to this
# user and becomes it before it listens (SCHEDD_USER).
ENV SCHEDD_DATA=/data SCHEDCTL_DATA=/data SCHEDD_USER=scheduler
VOLUME /data
# The daemon is process 1, so that it gets the signals itself.
CMD ["/usr/local/bin/schedd", "serve"]
