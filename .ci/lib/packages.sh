# shellcheck shell=bash
# What comes from Debian's packages.

apt_updated=false
apt_update() {
  if ! $apt_updated; then
    apt_updated=true
    timeout 180 apt-get -q -o Acquire::Retries=2 update </dev/null >"$work/apt.log" 2>&1 \
      || { tail -n 5 "$work/apt.log"; echo "apt-get update failed; going on with the package lists that are there"; }
  fi
}

apt_install() {
  if (( EUID != 0 )) || ! command -v apt-get >/dev/null; then
    echo "can't install $*: not root on Debian"
    return 1
  fi
  apt_update
  echo "installing $*"
  DEBIAN_FRONTEND=noninteractive timeout 600 apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends "$@" \
    </dev/null >"$work/apt.log" 2>&1 || { tail -n 5 "$work/apt.log"; return 1; }
}

# Prints the home of a JDK of that version; JAVA_HOME, if it is one, goes first.
find_jdk() {
  local home on_path
  on_path=$(readlink -f "$(command -v javac || true)" || true)
  for home in "${JAVA_HOME:-}" "${on_path%/bin/javac}" "/usr/lib/jvm/java-$1-openjdk-amd64" "/usr/lib/jvm/temurin-$1-jdk-amd64" \
    /usr/lib/jvm/*; do
    if [[ -n $home && -x $home/bin/javac && $("$home/bin/javac" -version 2>&1) =~ ^javac\ $1([.+-]|$) ]]; then
      echo "$home"
      return 0
    fi
  done
  return 1
}

jdk17=
jdk25=
part_jdks() {
  command -v mvn >/dev/null || apt_install maven
  jdk17=$(find_jdk 17) || { apt_install openjdk-17-jdk-headless && jdk17=$(find_jdk 17); } \
    || { echo "no JDK 17 was found, and openjdk-17-jdk-headless could not be installed; set JAVA_HOME"; exit 1; }
  jdk25=$(find_jdk 25) || { apt_install openjdk-25-jdk-headless && jdk25=$(find_jdk 25); } || jdk25=
  echo "JDK 17: $jdk17"
  echo "JDK 25: ${jdk25:-not found}"
  with_jdk "$jdk17" mvn -version
}

part_browser() {
  if [[ -x /usr/bin/chromium && -x /usr/bin/chromedriver ]] || apt_install chromium chromium-driver; then
    chromium --version 2>/dev/null || true
    export BATCH_PERSISTENCE_BROWSER_TESTS=required
    note "Chromium: is there, the operators' page is tested in it"
  else
    note "Chromium: could not be installed; BROWSER TESTS ARE SKIPPED"
  fi
}

# Unpacked, not installed, so that no service is started.
prometheus_found=false
part_prometheus() {
  command -v curl >/dev/null || apt_install curl || return 0
  if command -v prometheus >/dev/null && command -v promtool >/dev/null; then
    prometheus_found=true
    return 0
  fi
  command -v apt-get >/dev/null || return 0
  apt_update
  mkdir -p "$work/prometheus"
  chmod 755 "$work" "$work/prometheus"
  (cd "$work/prometheus" && timeout 300 apt-get -q -o Acquire::Retries=2 download prometheus >"$work/apt.log" 2>&1 \
    && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb) || { tail -n 5 "$work/apt.log"; return 0; }
  export PROMETHEUS_BIN=$work/prometheus/usr/bin
  "$PROMETHEUS_BIN/prometheus" --version 2>&1 | head -n 1
  prometheus_found=true
}
