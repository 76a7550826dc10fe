#!/usr/bin/env bash
# Stops the Kafka that start.sh started:  tests/kafka/stop.sh PIDFILE
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: stop.sh PIDFILE" >&2; exit 64; }
pid="$(cat "$1")"
# Only ever a broker: a stale file may name somebody else's process by now.
if ! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'kafka\.Kafka'; then
  rm -f "$1"
  exit 0
fi
kill "$pid"
for _ in $(seq 1 100); do
  kill -0 "$pid" 2>/dev/null || { rm -f "$1"; exit 0; }
  sleep 0.1
done
kill -9 "$pid" 2>/dev/null || true
rm -f "$1"
