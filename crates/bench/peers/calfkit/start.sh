#!/usr/bin/env bash
# calfkit's KYC flow in the foreground: start.sh WORK_FOLDER
# Needs BROKERS, MODEL_URL (http://host:port/v1), IN_TOPIC, OUT_TOPIC; app.py names what else it reads.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
: "${1:?a work folder}" "${BROKERS:?}" "${MODEL_URL:?}" "${IN_TOPIC:?}" "${OUT_TOPIC:?}"
. "$here/../common/venv.sh"
venv "$1" "$here"
export PYTHONDONTWRITEBYTECODE=1
exec "$1/venv/bin/python" "$here/app.py"
