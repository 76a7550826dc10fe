# Sourced by the start scripts: venv WORK FOLDER makes WORK/venv from FOLDER's lock once, and again when the lock changed.
venv() {
  local stamp
  stamp="$(sha256sum <"$2/requirements.lock")"
  if [ "$(cat "$1/venv/stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$1/venv"
    mkdir -p "$1"
    python3 -m venv "$1/venv"
    "$1/venv/bin/pip" install --quiet --no-deps --require-hashes -r "$2/requirements.lock" >&2
    echo "$stamp" >"$1/venv/stamp"
  fi
}
