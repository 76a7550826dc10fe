# Sourced by the start scripts of Python peers: start FOLDER WORK_FOLDER runs FOLDER/app.py in place of the shell, in a venv that is
# made from FOLDER's lock once, and again when the lock changed.
start() {
  : "${2:?a work folder}" "${BROKERS:?}" "${MODEL_URL:?}" "${IN_TOPIC:?}" "${OUT_TOPIC:?}"
  local stamp
  stamp="$(sha256sum <"$1/requirements.lock")"
  if [ "$(cat "$2/venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$2/venv"
    mkdir -p "$2"
    python3 -m venv "$2/venv"
    "$2/venv/bin/pip" install --quiet --no-deps --require-hashes -r "$1/requirements.lock" >&2
    echo "$stamp" >"$2/venv/stamp"
  fi
  export PYTHONDONTWRITEBYTECODE=1
  exec "$2/venv/bin/python" "$1/app.py"
}
