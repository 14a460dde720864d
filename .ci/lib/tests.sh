# shellcheck shell=bash
# The parts that test.

passed=0 failed=0 skipped=0

part_scripts() {
  local script scripts=(.ci/run .ci/alerts benchmarks/run sample-app/nothing-lost sample-app/two-instances)
  for script in "${scripts[@]}"; do
    bash -n "$script"
  done
  check_links
  if command -v shellcheck >/dev/null || apt_install shellcheck; then
    shellcheck -x -S warning "${scripts[@]}" # with what they source
    note "Scripts and links: shellcheck finds nothing, no link is broken"
  else
    note "Scripts and links: no link is broken; shellcheck could not be had, SCRIPTS ARE NOT CHECKED"
  fi
}

part_verify_17() { verify "JDK 17" "$jdk17" -Pfull -Dbatch.kill.rounds=50; }

part_verify_25() {
  if [[ -n $jdk25 ]]; then
    # Cleaned, else what JDK 17 compiled would not be compiled anew. The slow suites, and what servers do when they fail, have
    # been seen on JDK 17.
    verify "JDK 25" "$jdk25" clean
  else
    note "JDK 25: not found, tests not run on it"
  fi
}

verify() { # NAME JAVA_HOME [ARGUMENT...]
  local name=$1 home=$2 status=0
  shift 2
  find . -path '*/target/*-reports' -prune -exec rm -rf {} + # else an earlier run's would be counted
  with_jdk "$home" mvn -B "$@" ${database_args[@]+"${database_args[@]}"} verify || status=$?
  count_tests "$name" || status=1
  return "$status"
}

# Sums up the reports of one Maven run: "N passed, N failed, N skipped".
count_tests() {
  local tests errors skips
  read -r tests errors skips < <(find . -path '*/target/*-reports/TEST-*.xml' -exec grep -hm1 "<testsuite " {} + \
    | tr '\n' ' ' | grep -oE '<testsuite [^>]*>' \
    | awk 'function value(name) { return match($0, " " name "=\"[0-9]+\"") ? substr($0, RSTART + length(name) + 3) + 0 : 0 }
           { t += value("tests"); e += value("errors") + value("failures"); s += value("skipped") }
           END { print t + 0, e + 0, s + 0 }')
  passed=$(( passed + tests - errors - skips )) failed=$(( failed + errors )) skipped=$(( skipped + skips ))
  note "$1: $(( tests - errors - skips )) passed, $errors failed, $skips skipped"
  (( tests > 0 )) || { echo "$1: not one test was run"; return 1; }
}

part_fuzz() {
  with_jdk "${jdk25:-$jdk17}" mvn -B -pl batch-persistence-core -Pfuzz test -Dfuzz.duration=5s
  note "fuzz: nothing was found in 5 s for each target"
}

part_alerts() {
  if $prometheus_found; then
    with_jdk "$jdk17" .ci/alerts
    note "alerts: the rules pass their tests; one fired while the collector was down, and was resolved when it was back"
  else
    note "alerts: Debian's package prometheus could not be had; ALERT RULES ARE NOT CHECKED"
  fi
}

part_nothing_lost() {
  local logs=(../shared/logs/*.log)
  if [[ -x sample-app/nothing-lost && -f ${logs[0]} ]]; then
    with_jdk "$jdk17" sample-app/nothing-lost "${logs[@]}"
    note "nothing-lost: nothing is missing"
  else
    note "nothing-lost: not run, there are no ../shared/logs/*.log"
  fi
}

part_two_instances() {
  if [[ -n $postgresql_url ]]; then
    with_jdk "$jdk17" sample-app/two-instances "$postgresql_url"
    note "two-instances: nothing is missing"
  else
    note "two-instances: not run, there is no PostgreSQL"
  fi
}
