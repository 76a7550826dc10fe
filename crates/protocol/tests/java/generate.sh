#!/usr/bin/env bash
# Makes tests/vectors/murmur2.csv with Apache Kafka's own Java client; with --check, compares instead.
set -euo pipefail
vectors_here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
# shellcheck source=../../../../tests/kafka/lib.sh
source "$vectors_here/../../../../tests/kafka/lib.sh"
fetch_jars
target="$vectors_here/../vectors/murmur2.csv"
made="$(mktemp)"
trap 'rm -f "$made"' EXIT
java -Dfile.encoding=UTF-8 -cp "$libs/*" --source 17 "$vectors_here/Murmur2Vectors.java" >"$made"
if [ "${1:-}" = "--check" ]; then
  diff -u "$target" "$made" || fail "the vectors are not what the Java client makes"
else
  mkdir -p "$(dirname "$target")"
  cp "$made" "$target"
fi
