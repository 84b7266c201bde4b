#!/usr/bin/env bash
# Stops the machine; a job that runs gets time to end. One that is stopped stays so.
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_token
schedctl machine stop "$@"
