#!/usr/bin/env bash
# The KYC flow on Kafka Streams in the foreground: start.sh WORK_FOLDER
# Needs BROKERS, MODEL_URL (http://host:port/v1), IN_TOPIC, OUT_TOPIC, java 17 and mvn; src/App.java names what else it reads.
# Its state is in WORK_FOLDER/state: keep it for a restart, delete it for a new run.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
: "${1:?a work folder}" "${BROKERS:?}" "${MODEL_URL:?}" "${IN_TOPIC:?}" "${OUT_TOPIC:?}"
mkdir -p "$1"
work="$(cd "$1" && pwd)"
stamp="$(cat "$here/pom.xml" "$here/jars.lock" "$here"/src/*.java | sha256sum)"
if [ "$(cat "$work/stamp" 2>/dev/null)" != "$stamp" ]; then
  rm -rf "$work/libs" "$work/classes"
  mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$work/libs" -DincludeScope=runtime >&2
  (cd "$work/libs" && sha256sum --quiet -c "$here/jars.lock") >&2
  javac -nowarn -d "$work/classes" -cp "$work/libs/*" "$here"/src/*.java
  echo "$stamp" >"$work/stamp"
fi
export STATE_DIR="${STATE_DIR:-$work/state}"
exec java ${JAVA_OPTS:--Xmx1g} -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$work/classes:$work/libs/*" App "$here/../common/kyc.json"
