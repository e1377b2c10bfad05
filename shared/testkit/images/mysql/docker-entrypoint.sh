#!/bin/bash
# Starts MySQL the way its official image does: the same variables, the same folders, the same order.
#
# MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD or MYSQL_RANDOM_ROOT_PASSWORD: one is required for an empty folder.
# MYSQL_ROOT_HOST (%), MYSQL_DATABASE, MYSQL_USER, MYSQL_PASSWORD, MYSQL_ONETIME_PASSWORD: as they say.
# MYSQL_INITDB_SKIP_TZINFO: leaves out the names of time zones.
# Each NAME may be given as NAME_FILE instead: a file that holds the value.
# /docker-entrypoint-initdb.d/*.{sh,sql,sql.gz} run once, in the order of their names.
set -eo pipefail

note() { echo "$(date --utc +%FT%TZ) [entrypoint] $*" >&2; }
fail() { note "ERROR: $*"; exit 1; }

# value NAME [DEFAULT]: sets the variable from itself, from the file that NAME_FILE names, or from the default.
value() {
  local file="$1_FILE"
  [ -z "${!1:-}" ] || [ -z "${!file:-}" ] || fail "$1 and $file are both set; give one of them"
  if [ -n "${!file:-}" ]; then
    [ -r "${!file}" ] || fail "$file: ${!file} cannot be read"
    export "$1=$(< "${!file}")"
  elif [ -z "${!1:-}" ]; then
    export "$1=${2:-}"
  fi
  unset "$file"
}

# setting NAME: what the server takes the variable for, with all files and arguments considered.
setting() {
  "${server[@]}" --verbose --help --log-bin-index=/dev/null 2> /dev/null \
    | awk -v name="$1" '$1 == name && /^[^ \t]/ && !found { sub(/^[^ \t]+[ \t]+/, ""); print; found = 1 }'
}

quoted() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\'\'}"; }

client() { mysql --no-defaults --protocol=socket --user=root --socket="$socket" --comments "$@"; }

start_temporary_server() {
  "${server[@]}" --skip-networking --mysqlx=OFF --default-time-zone=SYSTEM --socket="$socket" &
  temporary=$!
  local tries
  for ((tries = 0; tries < 600; tries++)); do
    client --execute 'SELECT 1' > /dev/null 2>&1 && return 0
    kill -0 "$temporary" 2> /dev/null || fail "the server ended while it was set up; see above"
    sleep 0.1
  done
  fail "the server did not answer within a minute"
}

stop_temporary_server() {
  kill "$temporary"
  wait "$temporary" || fail "the server did not shut down in good order after its set-up"
}

load_time_zones() {
  [ -z "$MYSQL_INITDB_SKIP_TZINFO" ] || return 0
  { echo 'SET SESSION sql_log_bin = 0;'
    mysql_tzinfo_to_sql /usr/share/zoneinfo | sed 's/Local time zone must be set--see zic manual page/FCTY/'; } \
    | client --database=mysql
}

create_users() {
  local statements="" host
  if [ -n "$MYSQL_RANDOM_ROOT_PASSWORD" ]; then
    MYSQL_ROOT_PASSWORD=$(openssl rand -base64 24)
    note "GENERATED ROOT PASSWORD: $MYSQL_ROOT_PASSWORD"
  fi
  host=$(quoted "$MYSQL_ROOT_HOST")
  if [ "$MYSQL_ROOT_HOST" != localhost ]; then
    statements+="CREATE USER 'root'@$host IDENTIFIED BY $(quoted "$MYSQL_ROOT_PASSWORD");"
    statements+="GRANT ALL ON *.* TO 'root'@$host WITH GRANT OPTION;"
  fi
  [ -z "$MYSQL_DATABASE" ] || statements+="CREATE DATABASE IF NOT EXISTS \`$MYSQL_DATABASE\`;"
  if [ -n "$MYSQL_USER" ] && [ -n "$MYSQL_PASSWORD" ]; then
    statements+="CREATE USER $(quoted "$MYSQL_USER")@'%' IDENTIFIED BY $(quoted "$MYSQL_PASSWORD");"
    [ -z "$MYSQL_DATABASE" ] \
      || statements+="GRANT ALL ON \`${MYSQL_DATABASE//_/\\_}\`.* TO $(quoted "$MYSQL_USER")@'%';"
  fi
  # The last, because the session that does it has no password.
  statements+="ALTER USER 'root'@'localhost' IDENTIFIED BY $(quoted "$MYSQL_ROOT_PASSWORD");"
  client <<< "$statements"
}

run_initdb_files() {
  local file
  export MYSQL_PWD=$MYSQL_ROOT_PASSWORD
  for file in /docker-entrypoint-initdb.d/*; do
    case $file in
      *.sh) note "running $file"; if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
      *.sql) note "running $file"; client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} < "$file" ;;
      *.sql.gz) note "running $file"; gzip -dc "$file" | client ${MYSQL_DATABASE:+--database="$MYSQL_DATABASE"} ;;
      */\*) ;;
      *) note "ignoring $file" ;;
    esac
  done
  [ -z "$MYSQL_ONETIME_PASSWORD" ] || client <<< "ALTER USER 'root'@'${MYSQL_ROOT_HOST}' PASSWORD EXPIRE;"
  unset MYSQL_PWD
}

initialize() {
  if [ -z "$MYSQL_ROOT_PASSWORD$MYSQL_ALLOW_EMPTY_PASSWORD$MYSQL_RANDOM_ROOT_PASSWORD" ]; then
    fail "the database is empty and no password is given; set MYSQL_ROOT_PASSWORD, MYSQL_ALLOW_EMPTY_PASSWORD or" \
      "MYSQL_RANDOM_ROOT_PASSWORD"
  fi
  [ "$MYSQL_USER" != root ] || fail "MYSQL_USER is root, who exists; remove MYSQL_USER"
  note "initializing the database in $folder"
  "${server[@]}" --initialize-insecure --default-time-zone=SYSTEM
  start_temporary_server
  load_time_zones
  create_users
  run_initdb_files
  stop_temporary_server
  note "the database is ready"
}

[ "${1:0:1}" != - ] || set -- mysqld "$@"
if [ "$1" != mysqld ]; then exec "$@"; fi
for argument in "$@"; do
  case $argument in --help | --version | -V | -\? | --validate-config) exec "$@" ;; esac
done

server=("$@")
folder=$(setting datadir)
socket=$(setting socket)
if [ "${folder:0:1}" != / ] || [ "${socket:0:1}" != / ]; then
  "${server[@]}" --validate-config || true
  fail "the server does not say where its folder ($folder) and socket ($socket) are"
fi
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$folder" "$(dirname "$socket")"
  find "$folder" "$(dirname "$socket")" \! -user mysql -exec chown mysql '{}' +
  exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
fi
value MYSQL_ROOT_PASSWORD
value MYSQL_ROOT_HOST %
value MYSQL_DATABASE
value MYSQL_USER
value MYSQL_PASSWORD
value MYSQL_ALLOW_EMPTY_PASSWORD
value MYSQL_RANDOM_ROOT_PASSWORD
value MYSQL_ONETIME_PASSWORD
[ -d "$folder/mysql" ] || initialize
exec "${server[@]}"
