#!/usr/bin/env bash
# Starts a real Apache Kafka (KRaft, one node, loopback) and prints its host:port.
#
#   tests/kafka/start.sh --pid-file FILE [--port N] [--data-dir DIR] [--set key=value]...
#                        [--listener PROTOCOL=PORT]... [--add-scram CREDENTIALS]...
#
# --listener adds one beside PLAINTEXT, for example SASL_SSL=9094, advertised as localhost; what it needs is --set.
# --add-scram is StorageTool's: SCRAM-SHA-512=[name=alice,password=secret].
#
# The first run fetches the jars; later runs take a few seconds. Stop it with tests/kafka/stop.sh FILE.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

pid_file="" port="" data="" overrides=() more="" protocols="" scram=()
while [ $# -gt 0 ]; do
  case "$1" in
    --pid-file) pid_file="$2"; shift 2 ;;
    --port) port="$2"; shift 2 ;;
    --data-dir) data="$2"; shift 2 ;;
    --set) overrides+=("$2"); shift 2 ;;
    --listener)
      more="$more,${2%%=*}://localhost:${2#*=}" protocols="$protocols,${2%%=*}:${2%%=*}"
      shift 2
      ;;
    --add-scram) scram+=(--add-scram "$2"); shift 2 ;;
    -h | --help) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "kafka: unknown option $1" >&2; exit 64 ;;
  esac
done
[ -n "$pid_file" ] || { echo "kafka: --pid-file is missing" >&2; exit 64; }

fetch_jars

# Free ports, as the kernel gives them; the controller's must differ from the broker's.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
[ -n "$port" ] || port="$(free_port)"
controller="$(free_port)"
while [ "$controller" = "$port" ]; do controller="$(free_port)"; done

[ -n "$data" ] || data="$(mktemp -d "${TMPDIR:-/tmp}/anabranch-kafka.XXXXXX")"
mkdir -p "$data"
config="$data/server.properties"
cat >"$config" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller$more
advertised.listeners=PLAINTEXT://127.0.0.1:$port$more
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT$protocols
log.dirs=$data/log
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=6000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=16777216
PROPERTIES
for line in ${overrides[@]+"${overrides[@]}"}; do echo "$line" >>"$config"; done

if [ ! -f "$data/log/meta.properties" ]; then
  java -cp "$libs/*" -Xshare:auto kafka.tools.StorageTool format --ignore-formatted \
    --cluster-id AnabranchTestKafka0001 --config "$config" ${scram[@]+"${scram[@]}"} >"$data/format.out" 2>&1 ||
    { cat "$data/format.out" >&2; fail "formatting the storage failed"; }
fi

# A session of its own: a Ctrl-C at the tests must not kill the broker before stop.sh does.
setsid java -Xms256m -Xmx768m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
  -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$libs/*" kafka.Kafka "$config" \
  >"$data/kafka.out" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$pid_file"

for _ in $(seq 1 300); do
  kill -0 "$pid" 2>/dev/null || { tail -50 "$data/kafka.out" >&2; fail "the broker ended while starting"; }
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    # The port opens before the broker serves; a metadata answer is what counts.
    if java -Xshare:auto -XX:TieredStopAtLevel=1 -cp "$libs/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
      org.apache.kafka.tools.TopicCommand --bootstrap-server "127.0.0.1:$port" --list >/dev/null 2>&1; then
      echo "127.0.0.1:$port"
      exit 0
    fi
  fi
  sleep 0.2
done
tail -50 "$data/kafka.out" >&2
kill "$pid" 2>/dev/null || true
fail "the broker was not ready in time"
