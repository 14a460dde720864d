# shellcheck shell=bash
# Database servers of Debian's packages, as they are and in containers.

readonly postgresql_image=batch-persistence/postgresql:local
readonly mariadb_image=batch-persistence/mariadb:local
postgresql_bin=
postgresql_url=
database_args=() # for Maven

part_databases() {
  command -v unzip >/dev/null || apt_install unzip || true
  if find_databases && start_postgresql && start_mariadb; then
    export BATCH_PERSISTENCE_DATABASE_TESTS=required
    note "Databases: PostgreSQL and MariaDB are there, the store in a database is tested with them"
  else
    note "Databases: PostgreSQL or MariaDB could not be had; ITS TESTS ARE SKIPPED"
  fi
}

find_databases() {
  local bins=(/usr/lib/postgresql/*/bin/initdb)
  [[ -x ${bins[0]} ]] || apt_install postgresql || return 1
  bins=(/usr/lib/postgresql/*/bin/initdb)
  postgresql_bin=$(dirname "${bins[-1]}")
  command -v mariadbd >/dev/null || apt_install mariadb-server || return 1
  [[ -x /usr/sbin/pgbouncer ]] || apt_install pgbouncer || return 1
  "$postgresql_bin/postgres" --version
  mariadbd --version
}

# The servers refuse to run as root.
as() { (exec_as "$@"); } # USER COMMAND...

exec_as() { # USER COMMAND...
  local user=$1
  shift
  if (( EUID == 0 )); then exec setpriv --reuid="$user" --regid="$user" --init-groups "$@"; else exec "$@"; fi
}

home_of() { # USER NAME
  mkdir -p "$work/$2"
  chmod 755 "$work"
  if (( EUID == 0 )); then chown "$1" "$work/$2"; fi
}

free_port() {
  local port
  for port in $(shuf -i 20000-32000 -n 50); do
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return 0
    fi
  done
  return 1
}

start_postgresql() {
  local port
  home_of postgres postgresql
  port=$(free_port) || return 1
  as postgres "$postgresql_bin/initdb" -D "$work/postgresql/data" -A trust -E UTF8 --locale=C.UTF-8 >"$work/postgresql.log" 2>&1 \
    && as postgres "$postgresql_bin/pg_ctl" -D "$work/postgresql/data" -w -t 60 -l "$work/postgresql/log" \
      -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$work/postgresql" start >>"$work/postgresql.log" 2>&1 \
    || { tail -n 5 "$work/postgresql.log"; return 1; }
  postgresql_url="jdbc:postgresql://127.0.0.1:$port/postgres?user=$(as postgres whoami)"
  database_args+=("-Dbatch.jdbc.postgresql.url=$postgresql_url"
    "-Dbatch.jdbc.postgresql.bin=$postgresql_bin")
}

start_mariadb() {
  local port
  home_of mysql mariadb
  port=$(free_port) || return 1
  as mysql mariadb-install-db --no-defaults --datadir="$work/mariadb/data" --auth-root-authentication-method=normal \
    --skip-test-db >"$work/mariadb.log" 2>&1 || { tail -n 5 "$work/mariadb.log"; return 1; }
  exec_as mysql mariadbd --no-defaults --datadir="$work/mariadb/data" --port="$port" --bind-address=127.0.0.1 \
    --socket="$work/mariadb/socket" --pid-file="$work/mariadb/pid" </dev/null >>"$work/mariadb.log" 2>&1 &
  echo "$!" >"$work/mariadb.pid"
  disown # so that bash does not report how it ends
  for _ in $(seq 120); do
    if mariadb --no-defaults --socket="$work/mariadb/socket" --user=root -e 'CREATE DATABASE IF NOT EXISTS batches' 2>/dev/null; then
      database_args+=("-Dbatch.jdbc.mariadb.url=jdbc:mariadb://127.0.0.1:$port/batches?user=root")
      return 0
    fi
    kill -0 "$!" 2>/dev/null || break
    sleep 0.5
  done
  tail -n 5 "$work/mariadb.log"
  return 1
}

stop_databases() {
  stop_process "$work/postgresql/data/postmaster.pid" QUIT
  stop_process "$work/mariadb.pid" KILL
}

part_containers() {
  if [[ -n $postgresql_bin ]] && database_containers_work; then
    with_jdk "$jdk17" mvn -B -Pquick -am -pl batch-persistence-jdbc test -Dtest='JdbcPostgresqlContractIT,JdbcMariadbContractIT' \
      "-Dbatch.jdbc.postgresql.image=$postgresql_image" "-Dbatch.jdbc.mariadb.image=$mariadb_image"
    note "Databases in containers: the contract holds with PostgreSQL and MariaDB that Testcontainers started"
  else
    note "Databases in containers: none could be started and reached; NOT TESTED"
  fi
}

# Whether a server in a container can be reached from here.
database_containers_work() {
  docker_answers && build_database_images || return 1
  local container address reached=false
  container=$(docker run --detach --publish 127.0.0.1::5432 --env POSTGRES_PASSWORD=test "$postgresql_image" 2>&1) \
    || { echo "${container##*$'\n'}"; return 1; }
  address=$(docker port "$container" 5432 | head -n 1) || address=
  for _ in $(seq 60); do
    [[ -n $address ]] || break # it has no network
    if "$postgresql_bin/pg_isready" -q -h "${address%:*}" -p "${address##*:}"; then
      reached=true
      break
    fi
    sleep 0.5
  done
  $reached || docker logs --tail 5 "$container" || true
  docker rm --force --volumes "$container" >/dev/null || true
  $reached || return 1
}

# This machine's servers and the few programs and libraries that they need: built in seconds, from nothing else. What the official
# images do with their environment, .ci/database-entrypoint does.
build_database_images() {
  local root=$work/databases name recipe
  recipe=$({ declare -f build_database_images copy_libraries; cat .ci/database-entrypoint; "$postgresql_bin/postgres" --version
    mariadbd --version; ldd --version; } | sha256sum | cut -c 1-16)
  if has_recipe "$recipe" "$postgresql_image" "$mariadb_image"; then
    echo "images $postgresql_image and $mariadb_image are there already"
    return 0
  fi
  mkdir -p "$root/tmp" "$root/etc" "$root/usr/bin" || return 1
  chmod 1777 "$root/tmp"
  printf '%s\n' 'root:x:0:0::/:/bin/sh' 'postgres:x:999:999::/:/bin/sh' 'mysql:x:998:998::/:/bin/sh' >"$root/etc/passwd"
  printf '%s\n' 'root:x:0:' 'postgres:x:999:' 'mysql:x:998:' >"$root/etc/group"
  for name in awk basename cat chmod chown cp cut date dirname env expr grep head hostname id ipcrm ls mkdir mktemp mv rm sed \
    setpriv sh sleep sort tail test touch tr true uname whoami mariadb mariadbd mariadb-install-db my_print_defaults; do
    cp -L --parents "$(type -P "$name")" "$root" || return 1
  done
  [[ -x $root/bin/sh ]] || { mkdir -p "$root/bin" && cp -L /bin/sh "$root/bin/sh"; } || return 1
  cp -RL --parents "$(dirname "$postgresql_bin")" "/usr/share/postgresql/$(basename "$(dirname "$postgresql_bin")")" \
    /usr/share/mysql /usr/lib/mysql/plugin /usr/share/zoneinfo "$root" || return 1
  [[ ! -d /usr/lib/locale/C.utf8 ]] || cp -RL --parents /usr/lib/locale/C.utf8 "$root" || return 1
  rm -rf "$root$(dirname "$postgresql_bin")"/lib/{bitcode,llvmjit*} # the compiler that they need is bigger than all the rest
  copy_libraries "$root" || return 1
  cp .ci/database-entrypoint "$root/entrypoint" || return 1
  for name in "$postgresql_image postgres" "$mariadb_image mariadbd"; do
    tar -C "$root" --owner=0 --group=0 -c . | docker import -c "LABEL recipe=$recipe" -c 'ENTRYPOINT ["/entrypoint"]' \
      -c "CMD [\"${name#* }\"]" -c "ENV PATH=$postgresql_bin:/usr/sbin:/usr/bin:/sbin:/bin" - "${name% *}" >/dev/null || return 1
  done
  rm -rf "$root"
  echo "built images $postgresql_image and $mariadb_image"
}
