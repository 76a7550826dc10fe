# Shared by the scripts beside it: where the jars are, and how to get them once.
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$here/../.." && pwd)"
cache="$root/target/kafka-reference"
libs="$cache/libs"

fail() {
  echo "kafka: $*" >&2
  exit 1
}

# Fetches the jars if the pom changed since the last time; a lock keeps two callers apart.
fetch_jars() {
  command -v java >/dev/null || fail "java (17 or later) is not on the PATH"
  mkdir -p "$cache"
  (
    flock 9
    stamp="$(cksum <"$here/pom.xml")"
    if [ -f "$cache/stamp" ] && [ "$(cat "$cache/stamp")" = "$stamp" ]; then
      exit 0
    fi
    command -v mvn >/dev/null || fail "mvn is not on the PATH, and the jars are not in $libs yet"
    rm -rf "$libs"
    echo "kafka: fetching the jars with Maven" >&2
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies "-DoutputDirectory=$libs" -DincludeScope=runtime >&2 ||
      fail "Maven could not fetch the jars"
    echo "$stamp" >"$cache/stamp"
  ) 9>"$cache/lock" || exit 1
}
