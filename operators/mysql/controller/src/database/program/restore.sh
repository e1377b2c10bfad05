# Makes the data folder of a new server: from a backup where there is one, else empty, with the accounts of the Secret.
# What is there already stays as it is, whatever it is. The folder is filled in one step, by renaming what a private
# server without networking has made and closed in good order; a kill leaves nothing, or what the next run goes on with.
# Environment: DATABASE, OWNER (namespace/name), POLICY (IfBackupExists, Required or Never), FROM (the id of a backup;
# empty: the newest), EXPECTED (the id of the newest backup that is known of; may be empty), PRIVATE_ARGUMENTS, CONFIG_ARGUMENT (comes
# first, where mysqld needs one to read its options; may be empty).
data=/var/lib/mysql
accounts=/etc/mysql-client/accounts.sql
work=$data/.mysql-operator
origin=.mysql-operator.json
mine=$work/new.${HOSTNAME:-$(cat /etc/hostname)}
server=

undo() {
  [ -z "$server" ] || kill -KILL "$server" 2> /dev/null
  rm -rf "$mine"
}

# Whether nobody has put anything into the folder. Names with a dot are the volume's own, or ours.
is_empty() {
  for entry in "$data"/*; do
    [ "$entry" = "$data/lost+found" ] || [ ! -e "$entry" ] || return 1
  done
}

finish() {
  report "$(cat "$data/$origin")"
  exit 0
}

# Moves what is whole to its place, the note of where it comes from last.
settle() {
  for entry in "$work/whole"/* "$work/whole"/.[!.]*; do
    name=${entry##*/}
    [ -e "$entry" ] && [ "$name" != "$origin" ] || continue
    [ ! -e "$data/$name" ] || fail DataFolderForeign "somebody has put $name into the data folder while it was filled"
    mv -T "$entry" "$data/$name" || [ ! -e "$entry" ] || fail VolumeUnusable "cannot move $name within the data volume"
  done
  sync "$data" || fail VolumeUnusable "cannot write the data folder through to its volume"
  mv -T "$work/whole/$origin" "$data/$origin" || [ -e "$data/$origin" ] \
    || fail VolumeUnusable "cannot write $origin to the data volume"
  sync "$data"
  rm -rf "$work"
  finish
}

# Sets `backup` to the folder to restore from, or to nothing; `legacy` to a plain file as the kind's first operator
# wrote it, which has neither a manifest nor a statement that makes its database.
choose() {
  backup=
  legacy=
  [ "$POLICY" != Never ] || return
  cd /backup || fail VolumeUnusable "there is no backup volume at /backup"
  for folder in *; do
    case $folder in lost+found | *.partial) continue ;; esac
    [ ! -d "$folder" ] || { [ -r "$folder" ] && [ -x "$folder" ]; } || fail VolumeUnusable \
      "the backup $folder is of user $(stat -c %u "$folder") and cannot be read: name that user in spec.runAsUser"
  done
  old=${OWNER#*/}-dump.sql
  there=$(backups | cut -d ' ' -f 2 | tr '\n' ' ')
  [ ! -f "$old" ] || there="${there}original "
  case $FROM in
    '') backup=$(backups | head -n 1 | cut -d ' ' -f 2) ;;
    original) legacy=$old ;;
    .* | *.partial | *[!A-Za-z0-9._-]*) fail BackupMissing "no backup is called so; restore.from is wrong" ;;
    *) backup=$FROM ;;
  esac
  [ -z "$backup" ] || [ -f "$backup/manifest.json" ] \
    || fail BackupMissing "there is no backup $backup; there are: ${there:-none}"
  [ -n "$backup$legacy" ] || [ ! -f "$old" ] || legacy=$old
  [ -z "$legacy" ] || [ -f "$legacy" ] || fail BackupMissing "there is no $legacy on the backup volume"
  [ -n "$backup$legacy" ] || [ "$POLICY" != Required ] || fail BackupMissing \
    "restore.policy is Required and there is no backup: bring one, or change the policy before anything is written"
  # One that is older would take its place, and all that was written since would be lost. One that followed it may have
  # had it removed before anybody knew of more than it.
  wrong="$EXPECTED was taken and is not on this volume: it may be another volume, or a folder of another node"
  [ -n "$FROM" ] || [ -z "$EXPECTED" ] || [ -f "$EXPECTED/manifest.json" ] \
    || { [ -n "$backup" ] && [ "$(field "$backup/manifest.json" previous)" = "$EXPECTED" ]; } || fail BackupMissing \
    "$wrong; bring the backups to it, name another in restore.from (there are: ${there:-none}), or start empty with restore.policy Never"
}

# What is not whole is not restored, and nothing else in its place without being asked.
check() {
  remedy="name an older backup in restore.from, or start empty with restore.policy Never"
  if [ -n "$backup" ]; then
    text=$(damage "$backup")
    [ -z "$text" ] || fail BackupDamaged "$text; $remedy"
    of_database "$backup" || fail DatabaseDiffers "$(other_database "$backup")"
    note="{\"origin\":\"backup\",$(summary "$backup")}"
  elif [ -n "$legacy" ]; then
    ends_well cat "$legacy" || fail BackupDamaged "$legacy does not end as a dump does; $remedy"
    note="{\"origin\":\"backup\",\"id\":\"original\",\"time\":\"$(date -u -r "$legacy" +%Y-%m-%dT%H:%M:%SZ)\""
    note="$note,\"bytes\":$(wc -c < "$legacy" | tr -d ' '),\"sha256\":\"$(checksum "$legacy")\",\"version\":\"\"}"
  else
    note='{"origin":"empty"}'
  fi
}

# A server that serves another database than it holds, and backs up that one, has lost the rows.
other_database() {
  theirs=$(sed -n 's/^  "database": "\(.*\)",$/\1/p' "$1/manifest.json" | sed 's/\\\(.\)/\1/g')
  digits=$(field "$1/manifest.json" databaseHex)
  printf '%s' "backup $1 holds the database \"$theirs\"${digits:+ (0x$digits)}, and spec.database is \"$DATABASE\"" \
    " (0x$(database_digits)): create this MySQL with the former, name a backup of the latter in restore.from, or start" \
    " empty with restore.policy Never"
}

sql() { mysql --no-defaults --socket="$scratch/socket" --user=root --binary-mode --batch --skip-column-names \
  --default-character-set=utf8mb4 --max-allowed-packet=1073741824 "$@"; }

# Comes first where what follows is no replica's business. A name in quotes is read as it is.
unlogged="SET SESSION sql_log_bin = 0, sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES';"

# Of an option that it does not know mysqld may say nothing at all unless it is asked.
mysqld_failed() {
  [ -s "$scratch/log" ] || [ -s "$scratch/said" ] || mysqld $CONFIG_ARGUMENT $user --validate-config > "$scratch/said" 2>&1
  fail ServerFailed "mysqld $1: $(last_words "$scratch/log") $(last_words "$scratch/said")"
}

initialize() {
  mkdir -p "$mine" || fail VolumeUnusable "cannot write to the data volume"
  user=
  if [ "$(id -u)" = 0 ]; then
    id -u mysql > /dev/null 2>&1 && user=mysql || user=root
    chown "$user" "$data" "$work" "$mine" "$scratch" || fail VolumeUnusable "cannot give the data folder to $user"
    user=--user=$user
  fi
  waits mysqld $CONFIG_ARGUMENT --initialize-insecure $user --datadir="$mine" --log-error="$scratch/log" \
    --default-time-zone=SYSTEM > "$scratch/said" 2>&1 \
    || mysqld_failed "cannot make an empty data folder"
}

start() {
  mysqld $CONFIG_ARGUMENT $user --datadir="$mine" --log-error="$scratch/log" --socket="$scratch/socket" \
    --pid-file="$scratch/pid" --default-time-zone=SYSTEM \
    --skip-networking $PRIVATE_ARGUMENTS --event-scheduler=OFF --read-only=OFF --super-read-only=OFF --autocommit=ON \
    --performance-schema=OFF --max-allowed-packet=1073741824 --innodb-flush-log-at-trx-commit=0 --sync-binlog=0 \
    > "$scratch/said" 2>&1 &
  server=$!
  until sql --execute='SELECT 1' > /dev/null 2>&1; do
    kill -0 "$server" 2> /dev/null || { server=; mysqld_failed "ended before it answered"; }
    waits sleep 0.2
  done
}

# The names of time zones, as the official image loads them into each new server: without them CONVERT_TZ answers NULL, and
# a server whose configuration has such a name does not start.
load_time_zones() {
  zones=/usr/share/zoneinfo
  [ -d "$zones" ] && [ -z "${MYSQL_INITDB_SKIP_TZINFO:-}" ] && command -v mysql_tzinfo_to_sql > /dev/null || return 0
  # A file that is no zone has a text in the place of an abbreviation, which is too long for the column.
  { printf '%s\n' "$unlogged"
    mysql_tzinfo_to_sql "$zones" 2> /dev/null | sed 's/Local time zone must be set--see zic manual page/FCTY/'; } \
    | sql --database=mysql > /dev/null 2> "$scratch/load" || load_failed "the image's time zones"
}

dump() {
  if [ -n "$legacy" ]; then
    cat "$legacy"
  else
    gzip -dc "$backup/dump.sql.gz"
  fi
}

# The accounts that have defined what is in the dump, quoted as it has them. Only mysqldump's own statements begin lines so: those
# with rows begin with INSERT and have no line break. Lines of rows are long, and nobody is to hold one whole.
definers() {
  name='(`([^`]|``)*`|"([^"]|"")*")'
  dump | cut -b 1-2000 \
    | sed -nE 's,^(/\*![0-9]+ )?(CREATE(\*/ /\*![0-9]+)? )?DEFINER=('"$name@$name"')[ *].*,\4,p' | sort -u
}

# No view can be made on a view, or a function, of an account that is not there, and accounts are in no dump: so they are
# there while it is loaded. Nobody can log in as them. What cannot be made is there, or the load tells of it.
lend_accounts() {
  : > "$scratch/lent"
  waits definers > "$scratch/definers" || fail BackupDamaged "the dump could not be read to its end"
  # A policy for passwords wants one that is not weak.
  secret="Aa1!$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
  while read -r account; do
    printf "%s\nCREATE USER %s IDENTIFIED BY '%s' ACCOUNT LOCK;\n" "$unlogged" "$account" "$secret" \
      | sql > /dev/null 2>&1 || continue
    printf 'DROP USER %s;\n' "$account" >> "$scratch/lent"
    printf '%s\nGRANT ALL ON *.* TO %s;\n' "$unlogged" "$account" | sql 2> "$scratch/load" || load_failed
  done < "$scratch/definers"
}

take_accounts_back() {
  [ -s "$scratch/lent" ] || return 0
  { printf '%s\n' "$unlogged"; cat "$scratch/lent"; } | sql > /dev/null 2> "$scratch/load" || load_failed
}

# Where positions are GTIDs, replicas that come later learn the data from the binary log; elsewhere it would only
# take twice the space.
load() {
  [ "$(sql --execute='SELECT @@GLOBAL.gtid_mode' 2> /dev/null)" = ON ] && logged=1 || logged=0
  lend_accounts
  { dump; echo $? > "$scratch/status"; } | sql --init-command="SET SESSION sql_log_bin = $logged" \
    ${legacy:+--database="$DATABASE"} > /dev/null 2> "$scratch/load" &
  wait $! || load_failed
  [ "$(cat "$scratch/status")" = 0 ] || fail BackupDamaged "the dump could not be read to its end"
  take_accounts_back
}

# A dump of ours does this itself, with the database's own character set.
make_database() {
  printf 'CREATE DATABASE IF NOT EXISTS `%s`;\n' "$(printf '%s' "$DATABASE" | sed 's/`/``/g')" \
    | sql 2> "$scratch/load" || load_failed
}

# load_failed [WHAT]: gives up for what the server says of a dump, or of WHAT.
load_failed() {
  text=$(last_words "$scratch/load")
  case "$text $(last_words "$scratch/log")" in
    *'is full'* | *'No space left'* | *'rrno 28'* | *'rrno: 28'* | *'error: 28'*)
      fail VolumeFull "no space is left on the data volume: $text" ;;
  esac
  fail LoadFailed "the server refuses ${1:-the dump}: $text"
}

assert_accounts() {
  sql < "$accounts" > /dev/null 2> "$scratch/load" || load_failed
  mysql --defaults-file="$client" --protocol=socket --socket="$scratch/socket" --execute='SELECT 1' \
    > /dev/null 2> "$scratch/load" || fail AccessDenied "the accounts were made and cannot be used: $(cat "$scratch/load")"
}

stop() {
  kill -TERM "$server"
  wait "$server" || mysqld_failed "did not end in good order"
  server=
}

[ ! -f "$data/$origin" ] || [ -d "$work/whole" ] || { rm -rf "$work"; finish; }
[ ! -d "$work/whole" ] || settle
if ! is_empty; then
  [ -d "$data/mysql" ] || fail DataFolderForeign \
    "the data volume holds something that is no data folder of MySQL; empty it, or give another volume"
  rm -rf "$work"
  report '{"origin":"existing"}'
  exit 0
fi
# The last is for the backups to come: without it there is no way to have one.
need mysqld mysql gzip sha256sum sync find od mysqldump
make_scratch
choose
check
# What others left half done; should one of them be alive yet, it finds its work gone, all of it.
for left in "$work"/new.*; do
  rm -rf "$work/dropped"
  [ ! -e "$left" ] || mv -T "$left" "$work/dropped"
done
rm -rf "$work/dropped"
initialize
start
load_time_zones
[ -n "$backup" ] || make_database
[ -z "$backup$legacy" ] || load
assert_accounts
stop
printf '%s\n' "$note" > "$mine/$origin" || fail VolumeFull "no space is left on the data volume for $origin"
# File by file: everybody else's writes on the node are none of ours to wait for.
waits find "$mine" -exec sync {} + || fail VolumeUnusable "cannot write the data folder through to its volume"
mv -T "$mine" "$work/whole" || [ -d "$work/whole" ] || fail VolumeUnusable "cannot rename within the data volume"
settle
