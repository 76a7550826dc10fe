#!/usr/bin/env bash
# Runs one of Kafka's own command-line tools, for example
#   tests/kafka/tool.sh org.apache.kafka.tools.consumer.group.ConsumerGroupCommand --bootstrap-server … --list
# A name without a package is looked up among the common ones: ConsumerGroupCommand, TopicCommand, ConfigCommand,
# ConsoleProducer, ConsoleConsumer, GetOffsetShell, LeaderElectionCommand, ReassignPartitionsCommand. One that ends in
# .java is run from its source.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -ge 1 ] || { echo "usage: tool.sh CLASS [args…]" >&2; exit 64; }
fetch_jars
class="$1"
shift
case "$class" in
  *.*) ;;
  ConsumerGroupCommand) class=org.apache.kafka.tools.consumer.group.ConsumerGroupCommand ;;
  ConsoleConsumer) class=org.apache.kafka.tools.consumer.ConsoleConsumer ;;
  ConfigCommand) class=kafka.admin.ConfigCommand ;;
  ReassignPartitionsCommand) class=org.apache.kafka.tools.reassign.ReassignPartitionsCommand ;;
  *) class="org.apache.kafka.tools.$class" ;;
esac
exec java -Xshare:auto -XX:TieredStopAtLevel=1 -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=error \
  -cp "$libs/*" "$class" "$@"
