#!/usr/bin/env bash
# Makes the app on Fly with its volume and keys, where they are missing, and deploys this project. May be repeated.
# Arguments go to `schedctl deploy`; the app is SCHEDCTL_APP, by default email-scheduler.
# shellcheck source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

need_flyctl
cd "$project"
if [ ! -e keys/server.secret ] && [[ " $* " != *" --keys"* && " $* " != *" -h"* && " $* " != *" --help"* ]]; then
  schedctl keys new --out keys >/dev/null
  echo "Keys were made in $project/keys; keep them safe, they are not made twice." >&2
fi
schedctl deploy "$@"
