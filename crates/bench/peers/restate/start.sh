#!/usr/bin/env bash
# The KYC flow on Restate in the foreground: start.sh WORK_FOLDER
# Starts the Restate server and the services, both on loopback, and has the server subscribe to IN_TOPIC.
# Needs BROKERS, MODEL_URL (http://host:port/v1), IN_TOPIC, OUT_TOPIC, npm, cargo, curl; src/main.rs names what else it reads.
# Restate's data is in WORK_FOLDER/data: keep it for a restart, delete it for a new run. A config of your own: RESTATE_MORE,
# a TOML file that is put before ours.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
: "${1:?a work folder}" "${BROKERS:?}" "${MODEL_URL:?}" "${IN_TOPIC:?}" "${OUT_TOPIC:?}"
mkdir -p "$1"
work="$(cd "$1" && pwd)"

cp "$here/package.json" "$here/package-lock.json" "$work/"
stamp="$(sha256sum <"$here/package-lock.json")"
if [ "$(cat "$work/npm.stamp" 2>/dev/null)" != "$stamp" ]; then
  # The server needs no install script; the only one there is reports the installation.
  (cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --silent >&2)
  echo "$stamp" >"$work/npm.stamp"
fi
server="$(echo "$work"/node_modules/@restatedev/restate-server-*/bin/restate-server)"
cargo build --quiet --release --locked --manifest-path "$here/Cargo.toml" --target-dir "$work/target" >&2
peer="$work/target/release/peer-restate"

# Free ports; the same ones after a restart, as cases under way know where their services are.
[ -d "$work/data" ] && [ -f "$work/ports" ] || python3 -c 'import socket
s = [socket.socket() for _ in range(4)]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*(x.getsockname()[1] for x in s))' >"$work/ports"
read -r node admin ingress service <"$work/ports"
{
  [ -z "${RESTATE_MORE:-}" ] || cat "$RESTATE_MORE"
  cat <<TOML
cluster-name = "peer"
node-name = "peer"
base-dir = "$work/data"
listen-mode = "tcp"
bind-ip = "127.0.0.1"
bind-port = $node
disable-telemetry = true
log-filter = "warn"
[admin]
bind-port = $admin
[ingress]
bind-port = $ingress
[[ingress.kafka-clusters]]
name = "kafka"
brokers = ["$(echo "$BROKERS" | sed 's/,/", "/g')"]
TOML
} >"$work/restate.toml"

pids=()
stop() {
  trap - EXIT INT TERM
  kill "${pids[@]}" 2>/dev/null || true
  wait || true
}
trap stop EXIT
trap 'exit 0' INT TERM

"$peer" topics
"$server" --no-logo -c "$work/restate.toml" >"$work/server.log" 2>&1 &
pids+=($!)
LISTEN="127.0.0.1:$service" KYC_DATA="$here/../common/kyc.json" "$peer" >"$work/service.log" 2>&1 &
pids+=($!)
echo "${pids[@]}" >"$work/pids" # the server's and the services', for a test that kills one

# Asks the admin API until it says yes: the server takes a while to be one.
ask() {
  local _
  for _ in $(seq 1 150); do
    curl -sf -o "$work/answer.json" "http://127.0.0.1:$admin/$1" -H 'content-type: application/json' ${2:+-d "$2"} && return
    kill -0 "${pids[@]}" 2>/dev/null || break
    sleep 0.2
  done
  tail -5 "$work/server.log" "$work/service.log" >&2
  echo "restate: $1 was not accepted" >&2
  exit 1
}
ask health
ask deployments "{\"uri\": \"http://127.0.0.1:$service\", \"force\": true}"
ask subscriptions
grep -q "kafka://kafka/$IN_TOPIC\"" "$work/answer.json" || ask subscriptions "{\"source\": \"kafka://kafka/$IN_TOPIC\", \"sink\": \"service://Case/run\",
  \"options\": {\"group.id\": \"$OUT_TOPIC.restate\", \"auto.offset.reset\": \"earliest\"}}"
sleep 3 # the subscription's consumer joins its group; the API does not tell when
echo READY
wait -n "${pids[@]}"
