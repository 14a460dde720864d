# shellcheck shell=bash
# Docker: an engine and an image with a JRE, without any registry.

readonly image=batch-persistence/jre:local
readonly cache=/var/tmp/batch-persistence-ci
docker_problem="for an unknown reason"
export TESTCONTAINERS_RYUK_DISABLED=true TESTCONTAINERS_HOST_OVERRIDE=localhost BATCH_PERSISTENCE_JRE_IMAGE=$image

part_engine() {
  if start_docker && build_image; then
    export BATCH_PERSISTENCE_CONTAINER_TESTS=required # with an engine there is no excuse for skipping them
    note "Docker: engine and image are there, container tests run"
  else
    note "Docker: $docker_problem; CONTAINER TESTS ARE SKIPPED"
  fi
}

docker_answers() { timeout 20 docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

start_docker() {
  if command -v docker >/dev/null && docker_answers; then
    echo "an engine is running already"
    return 0
  fi
  if (( EUID != 0 )); then
    docker_problem="no Docker engine is running, and only root can start one"
    return 1
  fi
  if ! command -v dockerd >/dev/null && ! apt_install docker.io iptables; then
    docker_problem="no Docker engine is installed, and docker.io could not be"
    return 1
  fi
  if docker_answers; then # on an ordinary Debian the installation has started it
    return 0
  fi

  # The lock lives as long as the engine does: two at a time can't share a data directory.
  local data=$cache bridge driver network
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock -n 9 || data=$work
  export DOCKER_HOST=unix://$work/docker.sock
  make_bridge || echo "no bridge can be made here: containers will have no network"
  bridge=$(cat "$work/bridge" 2>/dev/null || true)
  for driver in overlay2 vfs; do
    for network in $bridge none; do
      # Ports of containers are reached through the engine's own proxy, so it need not make any rules.
      setsid dockerd --host "$DOCKER_HOST" --data-root "$data/docker-$driver" --exec-root "$work/exec" \
        --pidfile "$work/docker.pid" --storage-driver "$driver" --bridge "$network" \
        --iptables=false --ip6tables=false --ip-forward=false </dev/null >"$work/dockerd.log" 2>&1 &
      echo "$!" >"$work/dockerd.pid"
      for (( i = 0; i < 60; i++ )); do
        if docker_answers; then
          echo "started an engine, storage driver $driver, bridge $network"
          return 0
        fi
        kill -0 "$!" 2>/dev/null || break
        sleep 0.5
      done
      echo "the engine did not come up with storage driver $driver, bridge $network:"
      grep -E 'level=(error|fatal)|failed' "$work/dockerd.log" | tail -n 5 || tail -n 5 "$work/dockerd.log"
      stop_dockerd
    done
  done
  unset DOCKER_HOST
  docker_problem="the Docker engine did not come up"
  return 1
}

# A bridge of this run's own, with addresses reserved for tests (RFC 2544): other engines on this machine have theirs.
make_bridge() {
  command -v ip >/dev/null || return 1
  local name=bp-ci-$RANDOM
  ip link add "$name" type bridge 2>/dev/null || return 1
  echo "$name" >"$work/bridge"
  if ! ip address add "198.18.$(( RANDOM % 256 )).1/24" dev "$name" || ! ip link set "$name" up; then
    remove_bridge
    return 1
  fi
}

remove_bridge() {
  [[ ! -e $work/bridge ]] || ip link delete "$(<"$work/bridge")" 2>/dev/null || true
  rm -f "$work/bridge"
}

stop_docker() {
  stop_dockerd
  remove_bridge
}

# Containerd ends with the engine, unless the engine had to be killed.
stop_dockerd() {
  stop_process "$work/dockerd.pid" TERM
  stop_process "$work/exec/containerd/containerd.pid" KILL
}

# A Java runtime made by jlink and the few libraries of this machine that it needs: built in seconds, from nothing else.
build_image() {
  local root=$work/image recipe
  docker_problem="the image $image could not be built or does not run"
  recipe=$({ declare -f build_image copy_libraries; "$jdk17/bin/java" -version 2>&1; ldd --version; } | sha256sum | cut -c 1-16)
  if has_recipe "$recipe" "$image"; then
    echo "image $image is there already"
  else
    mkdir -p "$root/tmp" "$root/opt" || return 1
    chmod 1777 "$root/tmp"
    "$jdk17/bin/jlink" --no-header-files --no-man-pages --output "$root/opt/jre" \
      --add-modules java.base,java.logging,java.management,java.naming,java.sql,java.xml,jdk.unsupported || return 1
    # These four are for libraries that come in jars, built against an older libc.
    copy_libraries "$root" libpthread.so.0 libdl.so.2 librt.so.1 libm.so.6 || return 1
    tar -C "$root" -c . | docker import -c "LABEL recipe=$recipe" - "$image" >/dev/null || return 1
    rm -rf "$root"
    echo "built image $image"
  fi
  timeout 60 docker run --rm --network none "$image" /opt/jre/bin/java -version
}

has_recipe() { # RECIPE IMAGE...
  local recipe=$1 name
  shift
  for name in "$@"; do
    [[ $(docker image inspect --format '{{index .Config.Labels "recipe"}}' "$name" 2>/dev/null) == "$recipe" ]] || return 1
  done
}

# copy_libraries ROOT [NAME...] : those that the programs and libraries below ROOT need, and those named
copy_libraries() {
  local root=$1 library
  shift
  {
    find "$root" -type f \( -perm -u+x -o -name '*.so*' \) -exec ldd {} + 2>/dev/null | grep -oE '/[^ :]+' | grep -v "^$root/"
    for library in "$@"; do
      ldconfig -p | awk -v name="$library" '$1 == name { print $NF; exit }'
    done
  } | sort -u | while read -r library; do
    [[ ! -e $library ]] || cp -L --parents "$library" "$root" || return 1
  done
}
