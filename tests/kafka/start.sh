#!/usr/bin/env bash
# Starts a real Apache Kafka (KRaft, loopback) and prints its host:port, or those of its nodes, separated by commas.
#
#   tests/kafka/start.sh --pid-file FILE [--nodes N] [--port N] [--data-dir DIR] [--set key=value]...
#                        [--listener PROTOCOL=PORT]... [--add-scram CREDENTIALS]...
#   tests/kafka/start.sh --pid-file FILE --data-dir DIR --restart NODE
#
# --nodes 3 makes three brokers that are controllers too: topics have three replicas, two of them must be in sync.
# --port and --listener are for a single node. FILE gets one process id a line, in the order of the nodes.
# --listener adds one beside PLAINTEXT, for example SASL_SSL=9094, advertised as localhost; what it needs is --set.
# --add-scram is StorageTool's: SCRAM-SHA-512=[name=alice,password=secret].
# --restart starts a node (from 1) that has ended, on its ports and data.
#
# The first run fetches the jars; later runs take a few seconds. Stop it with tests/kafka/stop.sh FILE.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

pid_file="" port="" data="" nodes=1 restart="" overrides=() more="" protocols="" scram=()
while [ $# -gt 0 ]; do
  case "$1" in
    --pid-file) pid_file="$2"; shift 2 ;;
    --nodes) nodes="$2"; shift 2 ;;
    --port) port="$2"; shift 2 ;;
    --data-dir) data="$2"; shift 2 ;;
    --restart) restart="$2"; shift 2 ;;
    --set) overrides+=("$2"); shift 2 ;;
    --listener)
      more="$more,${2%%=*}://localhost:${2#*=}" protocols="$protocols,${2%%=*}:${2%%=*}"
      shift 2
      ;;
    --add-scram) scram+=(--add-scram "$2"); shift 2 ;;
    -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "kafka: unknown option $1" >&2; exit 64 ;;
  esac
done
[ -n "$pid_file" ] || { echo "kafka: --pid-file is missing" >&2; exit 64; }
[ "$nodes" = 1 ] || [ -z "$port$more" ] || { echo "kafka: --port and --listener are for one node" >&2; exit 64; }

fetch_jars

# Free ports, as the kernel gives them, all different.
free_ports() {
  python3 -c 'import socket, sys
s = [socket.socket() for _ in range(int(sys.argv[1]))]
[x.bind(("127.0.0.1", 0)) for x in s]
print(*(x.getsockname()[1] for x in s))' "$1"
}

# Writes the settings of node $1. Sessions are short: a killed node's leaders move, and it may come back, once its session
# is over. ports and controllers are those of all nodes.
configure() {
  local folder="$data/node-$1" voters="" n
  for n in $(seq 1 "$nodes"); do voters="$voters,$n@127.0.0.1:${controllers[n - 1]}"; done
  local replicas="$nodes" in_sync=$((nodes > 1 ? nodes - 1 : 1))
  local plain="PLAINTEXT://127.0.0.1:${ports[$1 - 1]}"
  mkdir -p "$folder"
  cat >"$folder/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$1
controller.quorum.voters=${voters#,}
listeners=$plain,CONTROLLER://127.0.0.1:${controllers[$1 - 1]}$more
advertised.listeners=$plain$more
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$protocols
log.dirs=$folder/log
auto.create.topics.enable=false
default.replication.factor=$replicas
min.insync.replicas=$in_sync
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=6000
offsets.topic.replication.factor=$replicas
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$replicas
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$replicas
share.coordinator.state.topic.min.isr=$in_sync
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
  for line in ${overrides[@]+"${overrides[@]}"}; do echo "$line" >>"$folder/server.properties"; done
  if [ ! -f "$folder/log/meta.properties" ]; then
    java -cp "$libs/*" -Xshare:auto kafka.tools.StorageTool format --ignore-formatted \
      --cluster-id AnabranchTestKafka0001 --config "$folder/server.properties" ${scram[@]+"${scram[@]}"} \
      >"$folder/format.out" 2>&1 || { cat "$folder/format.out" >&2; fail "formatting the storage failed"; }
  fi
}

# Starts node $1, whose process id is then in $pid.
launch() {
  local folder="$data/node-$1" heap=768m
  [ "$nodes" = 1 ] || heap=384m
  # A session of its own: a Ctrl-C at the tests must not kill the broker before stop.sh does.
  setsid java -Xms128m "-Xmx$heap" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$libs/*" kafka.Kafka "$folder/server.properties" \
    >>"$folder/kafka.out" 2>&1 </dev/null &
  pid=$!
}

# Waits until node $1 (process $2, port $3) serves.
await() {
  local _
  for _ in $(seq 1 300); do
    kill -0 "$2" 2>/dev/null || { tail -50 "$data/node-$1/kafka.out" >&2; fail "node $1 ended while starting"; }
    if (exec 3<>"/dev/tcp/127.0.0.1/$3") 2>/dev/null; then
      # The port opens before the broker serves; a metadata answer is what counts.
      if java -Xshare:auto -XX:TieredStopAtLevel=1 -cp "$libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
        org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$3" --list >/dev/null 2>&1; then
        return
      fi
    fi
    sleep 0.2
  done
  tail -50 "$data/node-$1/kafka.out" >&2
  fail "node $1 was not ready in time"
}

if [ -n "$restart" ]; then
  [ -f "$data/node-$restart/server.properties" ] || fail "there is no node $restart in $data"
  nodes="$(find "$data" -maxdepth 1 -name 'node-*' | wc -l)"
  port="$(sed -n 's|^listeners=PLAINTEXT://127.0.0.1:\([0-9]*\),.*|\1|p' "$data/node-$restart/server.properties")"
  launch "$restart"
  sed -i "${restart}s/.*/$pid/" "$pid_file"
  await "$restart" "$pid" "$port"
  echo "127.0.0.1:$port"
  exit 0
fi

[ -n "$data" ] || data="$(mktemp -d "${TMPDIR:-/tmp}/anabranch-kafka.XXXXXX")"
read -r -a free <<<"$(free_ports $((2 * nodes)))"
ports=("${free[@]:0:nodes}") controllers=("${free[@]:nodes}")
[ -z "$port" ] || ports[0]="$port"
pids=()
for node in $(seq 1 "$nodes"); do configure "$node"; done
for node in $(seq 1 "$nodes"); do
  launch "$node"
  pids+=("$pid")
  printf '%s\n' "${pids[@]}" >"$pid_file"
done
bootstrap=""
for node in $(seq 1 "$nodes"); do
  # fail ends this script; the nodes must not outlive it.
  (await "$node" "${pids[node - 1]}" "${ports[node - 1]}") || { kill "${pids[@]}" 2>/dev/null || true; exit 1; }
  bootstrap="$bootstrap,127.0.0.1:${ports[node - 1]}"
done
echo "${bootstrap#,}"
