#!/usr/bin/env bash
# Starts the machine and waits until its daemon answers. One that is up stays as it is.
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_token
schedctl machine start "$@"
