# Takes one backup of DATABASE from the server at HOST into /backup/BACKUP_ID and removes all but the newest KEEP.
# A backup is a folder with dump.sql.gz and manifest.json that comes to be whole or not at all: it is made under another
# name, checked, written through and renamed. Run again with the same BACKUP_ID it tells of what is there.
# Environment: BACKUP_ID, DATABASE, HOST, KEEP, OWNER (namespace/name), DUMP_OPTIONS, FINAL (`yes` closes the server to
# writes first and leaves it closed once the backup is there).
cd /backup || fail VolumeUnusable "there is no backup volume at /backup"
case $BACKUP_ID in '' | .* | *.partial | *[!A-Za-z0-9._-]*) fail Misused "BACKUP_ID is no name of a folder" ;; esac
case $KEEP in '' | 0* | *[!0-9]*) fail Misused "KEEP is no number of at least 1" ;; esac
need mysqldump mysql gzip sha256sum sync
make_scratch
partial=$BACKUP_ID.${HOSTNAME:-$(cat /etc/hostname)}.partial
closed=

say() { mysql --defaults-file="$client" --host="$HOST" --connect-timeout=5 --batch --skip-column-names \
  --execute="$1" 2> "$scratch/said"; }

# refuse FILE: gives up for the reason that a program gave.
refuse() {
  text=$(last_words "$1")
  case $text in
    *'Access denied'*) fail AccessDenied "the server refuses the Secret's password: $text" ;;
    *'Unknown database'*) fail DatabaseMissing "there is nothing to back up: $text" ;;
    *'No space left'* | *'rrno 28'* | *'rrno: 28'*) fail VolumeFull "no space is left on the backup volume: $text" ;;
    *'t connect to'* | *'Lost connection'* | *'gone away'* | *'Unknown MySQL server host'* | *2013*)
      fail ServerUnreachable "the server does not answer: $text" ;;
    *) fail DumpFailed "mysqldump failed: $text" ;;
  esac
}

undo() {
  [ -z "$closed" ] || say 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF' > /dev/null
  rm -rf "$partial"
}

# Waits for the server, for a while. Everything that it has executed by then is in the dump.
connect() {
  tries=0
  until waits say 'SELECT VERSION()' > "$scratch/version"; do
    grep -q 'Access denied' "$scratch/said" && refuse "$scratch/said"
    tries=$((tries + 1))
    [ $tries -lt "${PATIENCE:-60}" ] || refuse "$scratch/said"
    waits sleep 1
  done
  gtid=$(say "SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '')") || refuse "$scratch/said"
}

# What is committed after a dump has begun is not in it. So no commit may follow the last one.
close() {
  [ "$(say 'SELECT @@GLOBAL.super_read_only')" = 1 ] && return
  closed=yes
  waits say 'SET SESSION lock_wait_timeout = 30; SET GLOBAL super_read_only = ON' \
    || fail ServerBusy "somebody holds a lock that keeps the server from being closed to writes: $(cat "$scratch/said")"
}

dump() {
  { mysqldump --defaults-file="$client" --host="$HOST" $DUMP_OPTIONS --databases -- "$DATABASE" 2> "$scratch/dump"
    echo $? > "$scratch/status"; } | gzip -1 > "$partial/dump.sql.gz" 2> "$scratch/gzip" &
  wait $! || refuse "$scratch/gzip"
  [ "$(cat "$scratch/status")" = 0 ] || refuse "$scratch/dump"
  waits ends_well gzip -dc "$partial/dump.sql.gz" \
    || fail DumpTruncated "the dump does not end with \"Dump completed\", although mysqldump reports success"
}

# One field a line, so that what reads it needs no more than sed.
describe() {
  dump=$partial/dump.sql.gz
  cat > "$partial/manifest.json" << MANIFEST || fail VolumeFull "no space is left on the backup volume for a manifest"
{
  "format": 1,
  "id": "$BACKUP_ID",
  "owner": "$(json "$OWNER")",
  "database": "$(json "$DATABASE")",
  "time": "$time",
  "bytes": $(wc -c < "$dump" | tr -d ' '),
  "sha256": "$(checksum "$dump")",
  "gtid": "$gtid",
  "version": "$(json "$(cat "$scratch/version")")"
}
MANIFEST
}

# A name is taken away before what it names is, so that nothing half removed has it.
drop() {
  rm -rf dropped.partial
  mv -T "$1" dropped.partial && rm -rf dropped.partial
}

keep_newest() {
  backups | tail -n +$((KEEP + 1)) | while read -r _ old; do
    [ "$old" = "$BACKUP_ID" ] || drop "$old" || echo "cannot remove the old backup $old" >&2
  done
}

# What others left half done; should one of them be alive yet, it finds its work gone, all of it.
for left in *.partial; do
  [ ! -e "$left" ] || drop "$left"
done
if [ -f "$BACKUP_ID/manifest.json" ]; then
  if [ -z "$(damage "$BACKUP_ID")" ]; then
    report "{$(summary "$BACKUP_ID")}"
    exit 0
  fi
  drop "$BACKUP_ID" || fail VolumeUnusable "cannot remove the damaged backup $BACKUP_ID"
fi
mkdir "$partial" || fail VolumeUnusable "cannot write to the backup volume"
connect
[ "${FINAL:-}" != yes ] || close
time=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
dump
[ "${FINAL:-}" != yes ] || [ "$(say 'SELECT @@GLOBAL.super_read_only')" = 1 ] \
  || fail ServerRestarted "the server was opened to writes, or started again, while it was dumped"
describe
waits sync "$partial/dump.sql.gz" "$partial/manifest.json" "$partial" \
  || fail VolumeUnusable "cannot write the backup through to its volume"
text=$(mismatch "$partial")
[ -z "$text" ] || fail VolumeUnusable "what was written is not what is read: $text"
mv -T "$partial" "$BACKUP_ID" || fail VolumeUnusable "cannot name the backup $BACKUP_ID"
sync . || true
keep_newest
report "{$(summary "$BACKUP_ID")}"
