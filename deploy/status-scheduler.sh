#!/usr/bin/env bash
# Shows the machine, its volume and, if it is up, its daemon. Starts nothing.
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_token
schedctl machine status "$@"
