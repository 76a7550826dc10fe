#!/usr/bin/env bash
# calfkit's KYC flow in the foreground: start.sh WORK_FOLDER
# Needs BROKERS, MODEL_URL (http://host:port/v1), IN_TOPIC, OUT_TOPIC; app.py names what else it reads.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../common/python.sh"
start "$here" "${1:-}"
