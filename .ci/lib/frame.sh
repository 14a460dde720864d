# shellcheck shell=bash
# The frame of a run: parts, the summary, and that nothing outlives it. Part NAME is the function part_NAME.

summary=()
chosen=()
work=

section() { printf '\n======== %s (after %d s) ========\n' "$*" "$SECONDS"; }
note() { printf '%s\n' "$*"; summary+=("$*"); }

# begin [PART...]
begin() {
  local name
  for name in "$@"; do
    declare -F "part_$name" >/dev/null || { echo "there is no part '$name'; the parts are:"; grep '^part ' .ci/run; exit 2; } >&2
  done
  chosen=("$@")
  work=$(mktemp -d /tmp/batch-persistence-ci.XXXXXX)
  start_guard
  trap finish EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

part() { # NAME TITLE
  (( ${#chosen[@]} == 0 )) || [[ " jdks ${chosen[*]} " == *" $1 "* ]] || return 0
  section "$2"
  "part_$1"
}

finish() {
  local status=$?
  trap - EXIT
  stop_everything
  kill -KILL "$guard_pid" 2>/dev/null || true
  section "Summary"
  printf '%s\n' ${summary[@]+"${summary[@]}"}
  if (( status == 0 )); then
    echo "CI passed after $SECONDS s"
  else
    echo "CI FAILED with status $status after $SECONDS s; the reason is above, in the last section before this one"
  fi
  if (( passed + failed + skipped > 0 )); then
    echo "total: $passed passed, $failed failed, $skipped skipped"
  fi
  exit "$status"
}

# Both the run and its guard call this, so it relies on files in $work and not on variables.
stop_everything() {
  stop_docker
  stop_databases
  rm -rf "$work"
}

# A process that stops everything if the run is killed and can't do so itself. In a process group of its own, so that what kills
# the run's group does not kill it, too.
start_guard() {
  set -m
  (
    trap '' HUP INT TERM
    set +em
    while read -r _ _ _ parent _ <"/proc/$BASHPID/stat" && (( parent == $$ )); do sleep 1; done
    stop_everything
  ) </dev/null >/dev/null 2>&1 &
  guard_pid=$!
  set +m
}

# stop_process PID_FILE SIGNAL : the process in its first line; kill it if it has not ended within half a minute
stop_process() {
  local pid
  [[ -s $1 ]] || return 0
  read -r pid <"$1"
  rm -f "$1"
  kill -s "$2" "$pid" 2>/dev/null || return 0
  for (( i = 0; i < 60; i++ )); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.5
  done
  kill -KILL "$pid" 2>/dev/null || true
}

# with_jdk HOME COMMAND... : waits in a way that a signal interrupts; the command ends when the run does
with_jdk() {
  local home=$1
  shift
  # Bash ignores SIGINT in what it starts in the background, and so would all tests.
  env --default-signal=INT,QUIT JAVA_HOME="$home" PATH="$home/bin:$PATH" setpriv --pdeathsig TERM "$@" </dev/null &
  wait "$!"
}
