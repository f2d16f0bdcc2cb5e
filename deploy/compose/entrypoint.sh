#!/bin/sh
# Starts a scheduler or executor that listens where the other containers reach it, with its events in the shared folder; any
# other command as it is. `exec`: the process gets the container's signals.
set -eu
case "${1:-}" in
  scheduler | executor)
    role=$1
    shift
    address=$(hostname -i | cut -d' ' -f1)
    exec springald "$role" --bind "$address" \
      --set telemetry.log_file="/var/log/springald/$role-$(hostname).jsonl" "$@"
    ;;
  springald | tpch-data | sh)
    exec "$@"
    ;;
  *)
    exec springald "$@"
    ;;
esac
