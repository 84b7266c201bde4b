# shellcheck shell=bash
# Shared by the scripts in this folder: the app, schedctl, flyctl. Source it; do not run it.

set -euo pipefail

: "${SCHEDCTL_APP:=email-scheduler}"
export SCHEDCTL_APP
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() { # message, then lines of what to do
  printf 'Error: %s\n' "$1" >&2
  shift
  printf '  %s\n' "$@" >&2
  exit 2
}

schedctl() {
  if [ -x "$project/.venv/bin/schedctl" ]; then
    "$project/.venv/bin/schedctl" "$@"
  elif type -P schedctl >/dev/null; then
    command schedctl "$@"
  else
    fail "schedctl is not installed here" "Run \`make setup\` in $project."
  fi
}

need_flyctl() {
  flyctl=$(type -P flyctl || type -P fly || true)
  [ -n "$flyctl" ] || fail "flyctl is not installed here" \
    "Install it as https://fly.io/docs/flyctl/install/ says, then \`fly auth login\` or set FLY_API_TOKEN."
}

# The Machines API takes a token; whoever is signed in with flyctl has one.
need_token() {
  [ -z "${FLY_API_TOKEN:-}" ] || return 0
  need_flyctl
  FLY_API_TOKEN=$("$flyctl" auth token 2>/dev/null | tail -n 1 || true)
  [ -n "$FLY_API_TOKEN" ] || fail "no token: FLY_API_TOKEN is not set and flyctl is not signed in" \
    "Sign in with \`fly auth login\`, or" "make a token with \`fly tokens create deploy -a $SCHEDCTL_APP\` and set FLY_API_TOKEN."
  export FLY_API_TOKEN
}
