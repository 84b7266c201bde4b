#!/usr/bin/env bash
# Run the fast tests while busy loops use the processors, as other work on a shared machine does.
#
# Finds tests that race the clock. LOOPS sets the number of busy loops, LIMIT_S the time after which
# the run is ended as failed. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."

loops="${LOOPS:-4}"
limit_s="${LIMIT_S:-3600}"

pids=()
end_loops() {
  for pid in "${pids[@]}"; do
    kill "$pid" 2>/dev/null || true
  done
}
trap end_loops EXIT

for ((number = 0; number < loops; number++)); do
  yes >/dev/null &
  pids+=("$!")
done
echo "$loops busy loops on $(nproc) processors; limit $limit_s s" >&2

timeout --kill-after=60 "$limit_s" \
  .venv/bin/python -m pytest -n auto --dist loadgroup -m "not slow and not binary" "$@"
