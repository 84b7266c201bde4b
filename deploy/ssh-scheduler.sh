#!/usr/bin/env bash
# Opens a shell on the machine, which is started for it. With arguments, runs them there instead:
#   ssh-scheduler.sh db-info
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_flyctl
need_token
schedctl machine start >&2
if [ $# -eq 0 ]; then
  exec "$flyctl" ssh console --app "$SCHEDCTL_APP"
fi
exec "$flyctl" ssh console --app "$SCHEDCTL_APP" --command "$(printf '%q ' "$@")"
