# shellcheck shell=bash disable=SC2154
# What nothing-lost and two-instances share: they source it when they have read their options. It wants fail, keep, and in
# processes the names of the variables with the processes to be ended; it makes a working directory, work, with the application.

module=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$module")

# ---- build, if there is nothing to run or something has changed since ------------------------------------------------------

# Nothing, where nothing has been built: that is no failure.
find_jar() {
  { find "$module/target" -maxdepth 1 -name 'sample-app-*.jar' ! -name '*-sources.jar' ! -name '*-javadoc.jar' 2>/dev/null || true; } | head -n 1
}
jar=$(find_jar)
# The jar itself has the reproducible build's time, not that of its making.
made=$module/target/maven-archiver/pom.properties
stamp=$module/target/trial-build
[[ $stamp -nt $made ]] && made=$stamp
if [[ -z $jar || ! -e $made || -n $(find "$root" -path '*/target' -prune -o \( -path '*/src/main/*' -o -name pom.xml \) -type f -newer "$made" -print -quit) ]]; then
  echo "building ..."
  (cd "$root" && mvn -B -q -pl sample-app -am package -DskipTests -Dmaven.javadoc.skip -Dmaven.source.skip) || fail "the build failed"
  jar=$(find_jar)
  touch "$stamp"
fi
[[ -n $jar ]] || fail "no jar in $module/target"

java=${JAVA_HOME:+$JAVA_HOME/bin/}java
work=$(mktemp -d "${TMPDIR:-/tmp}/$(basename "$0").XXXXXX")
work=$(cd "$work" && pwd -P)
cp "$jar" "$work/app.jar" # so that a build meanwhile does no harm

cleanup() {
  local status=$? name pid
  trap - EXIT
  for name in "${processes[@]}"; do
    pid=${!name:-}
    [[ -n $pid ]] || continue
    kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if $keep || (( status == 2 )); then echo "left: $work"; else rm -rf "$work"; fi
  exit "$status"
}
trap cleanup EXIT
trap 'exit 2' INT TERM

# ---- the parts -------------------------------------------------------------------------------------------------------------

# start NAME ARGUMENT... : starts the application and waits for its port; sets pid and port
start() {
  local name=$1 log="$work/$1.log" from
  shift
  touch "$log"
  from=$(wc -l < "$log")
  "$java" -XX:TieredStopAtLevel=1 -Xmx256m -jar "$work/app.jar" --server.port=0 --server.address=127.0.0.1 \
    --sample.home="$work/$name" --logging.file.name="$log" --spring.main.banner-mode=off "$@" >"$work/$name.out" 2>&1 &
  pid=$!
  for (( i = 0; i < 1200; i++ )); do
    port=$(tail -n "+$((from + 1))" "$log" | sed -n 's/.*Tomcat started on port \([0-9]*\).*/\1/p' | tail -n 1)
    [[ -z $port ]] || return 0
    kill -0 "$pid" 2>/dev/null || { tail -n 30 "$work/$name.out" >&2; fail "the $name did not start"; }
    sleep 0.05
  done
  fail "the $name did not start within a minute, see $log"
}

# http METHOD PORT PATH : prints the body; without curl, which not every machine has
http() {
  (
    exec 3<>"/dev/tcp/127.0.0.1/$2"
    printf '%s %s HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n' "$1" "$3" >&3
    sed '1,/^\r$/d' <&3
  ) 2>/dev/null
}

field() { sed -n "s/.*\"$1\":\"\{0,1\}\([a-z0-9]*\).*/\1/p"; }
now() { date +%s%N; }
pause() { sleep "$(( $1 / 1000 )).$(printf %03d $(( $1 % 1000 )))"; }
say() { printf '%6.1f s  %s\n' "$(( ($(now) - began) / 100000000 ))e-1" "$*"; }

# Drained: the collector has as many different lines as there are, or nothing has come for a while.
# drained PORT LINES SECONDS : waits for that; so many seconds without a new line are a while
drained() {
  local port=$1 expected=$2 patience=$(( $3 * 2 )) quiet=0 last=-1 distinct
  while (( quiet < patience )); do
    distinct=$(http GET "$port" /collector/stats | field distinct) || true
    (( ${distinct:-0} < expected )) || break
    if [[ $distinct == "$last" ]]; then quiet=$(( quiet + 1 )); else quiet=0; fi
    last=$distinct
    pause 500
  done
  pause 1500 # what would be one too many may still come
}
