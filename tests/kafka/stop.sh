#!/usr/bin/env bash
# Stops the Kafka that start.sh started, or one of its nodes (from 1):  tests/kafka/stop.sh PIDFILE [NODE]
set -euo pipefail
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: stop.sh PIDFILE [NODE]" >&2; exit 64; }
# Only ever brokers: a stale file may name somebody else's processes by now.
pids=()
for pid in $(sed -n "${2:-1,\$}p" "$1"); do
  if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q 'kafka\.Kafka'; then pids+=("$pid"); fi
done
running() {
  local pid
  for pid in ${pids[@]+"${pids[@]}"}; do kill -0 "$pid" 2>/dev/null && return 0; done
  return 1
}
for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
for _ in $(seq 1 100); do
  running || break
  sleep 0.1
done
# The last nodes of several cannot hand over to anyone, and would wait for long.
for pid in ${pids[@]+"${pids[@]}"}; do kill -9 "$pid" 2>/dev/null || true; done
# What stops one node is to find it again.
[ $# -eq 2 ] || rm -f "$1"
