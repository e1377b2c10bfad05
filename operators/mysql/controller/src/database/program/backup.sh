# Takes one backup of DATABASE from the server at HOST into /backup/BACKUP_ID and removes all but the newest KEEP.
# A backup is a folder with dump.sql.gz and manifest.json that comes to be whole or not at all: it is made under another
# name, checked, written through and renamed. Run again with the same BACKUP_ID it tells of what is there; a last one is
# taken again, unless the server was closed all the time.
# Environment: BACKUP_ID, DATABASE, HOST, KEEP, OWNER (namespace/name), DATA_UID, DUMP_OPTIONS, FINAL (`yes` closes the
# server to writes first and leaves it closed once the backup is there, beside the KEEP before it), FROM (the id of a backup
# that is not to be removed; may be empty), FRESH (`yes`: the data, on the claim DATA_UID, began with nothing).
cd /backup || fail VolumeUnusable "there is no backup volume at /backup"
case $BACKUP_ID in '' | .* | *.partial | *[!A-Za-z0-9._-]*) fail Misused "BACKUP_ID is no name of a folder" ;; esac
case $KEEP in '' | 0* | *[!0-9]*) fail Misused "KEEP is no number of at least 1" ;; esac
need mysqldump mysql gzip sha256sum sync od
make_scratch
partial=$BACKUP_ID.${HOSTNAME:-$(cat /etc/hostname)}.partial
closed=
# How the server was before the last backup closed it, for as long as it is to be put back: a kill forgets nothing.
before=.closed-$BACKUP_ID
[ ! -s "$before" ] || closed=yes

say() { mysql --defaults-file="$client" --host="$HOST" --connect-timeout=5 --batch --skip-column-names \
  --execute="$1" 2> "$scratch/said"; }

# refuse FILE: gives up for the reason that a program gave.
refuse() {
  text=$(last_words "$1")
  case $text in
    *'Access denied'*) fail AccessDenied "the server refuses the Secret's password: $text" ;;
    *'Unknown database'*) fail DatabaseMissing "there is nothing to back up: $text" ;;
    *'No space left'* | *'rrno 28'* | *'rrno: 28'*) fail VolumeFull "no space is left on the backup volume: $text" ;;
    *'t connect to'* | *'Lost connection'* | *'gone away'* | *'Unknown MySQL server host'* | *'rror 2013'* | *'rror: 2013'*)
      fail ServerUnreachable "the server does not answer: $text" ;;
    *) fail DumpFailed "mysqldump failed: $text" ;;
  esac
}

undo() {
  [ -z "$closed" ] || reopen
  rm -rf "$partial"
}

# Opens the server again, as far as it was open.
reopen() {
  read -r was_closed was_super < "$before" || return
  statements=
  [ "$was_super" = 1 ] || statements='SET GLOBAL super_read_only = OFF;'
  [ "$was_closed" = 1 ] || statements="$statements SET GLOBAL read_only = OFF"
  [ -z "$statements" ] || say "$statements" > /dev/null || return
  rm -f "$before"
}

is_closed() { [ "$(say 'SELECT @@GLOBAL.super_read_only')" = 1 ]; }

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
  was=$(say 'SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only') || refuse "$scratch/said"
  # Closed, and the note is there: an earlier run was killed, and the note says how it was before that.
  if [ "${was#*[!0-9]}" != 1 ] || [ ! -s "$before" ]; then
    printf '%s\n' "$was" > "$before" && sync "$before" \
      || { rm -f "$before"; fail VolumeFull "no space is left on the backup volume for a note"; }
  fi
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
  "dataUid": "$DATA_UID",
  "database": "$(json "$DATABASE")",
  "databaseHex": "$(database_digits)",
  "time": "$time",
  "bytes": $(wc -c < "$dump" | tr -d ' '),
  "sha256": "$(checksum "$dump")",
  "gtid": "$gtid",
  "version": "$(json "$(cat "$scratch/version")")",
  "previous": "$previous"
}
MANIFEST
}

# What is newest is told by the time. Clocks of nodes differ and go wrong: so a backup is always later than those before
# it, by a thousandth of a second if its clock does not say more.
later_than_all() {
  time=$(date -u +%Y-%m-%dT%H:%M:%S.%3NZ)
  newest=$(backups | sed -n 's/^\([0-9][^ ]*\) .*/\1/p' | head -n 1)
  [ -n "$newest" ] && newest=$(date -u -d "$newest" +%s%3N 2> /dev/null) || return 0
  next=$((newest + 1))
  seconds=${next%???}
  next=$(date -u -d "@$seconds.${next#"$seconds"}" +%Y-%m-%dT%H:%M:%S.%3NZ)
  time=$(printf '%s\n' "$time" "$next" | sort | tail -n 1)
}

# A name is taken away before what it names is, so that nothing half removed has it.
drop() {
  rm -rf dropped.partial
  mv -T "$1" dropped.partial && rm -rf dropped.partial
}

# The ids of the backups of this database, newest first.
of_this() {
  backups | while read -r _ old; do
    ! of_database "$old" || echo "$old"
  done
}

# surplus NUMBER: the ids of the backups that are more than the newest NUMBER, this one not counted. Those of another database
# are no older ones of this: they stay for somebody to look at. Those of earlier data are none either while the data that are
# there have nothing of theirs: as many of them stay.
surplus() {
  own=0
  earlier=0
  of_this | while read -r old; do
    if [ "$old" = "$BACKUP_ID" ]; then
      continue
    elif [ "$FRESH" = yes ] && [ "$(field "$old/manifest.json" dataUid)" != "$DATA_UID" ]; then
      earlier=$((earlier + 1))
      [ "$earlier" -gt "$KEEP" ] || continue
    else
      own=$((own + 1))
      [ "$own" -gt "$1" ] || continue
    fi
    [ "$old" = "$FROM" ] || echo "$old"
  done
}

keep_newest() {
  surplus "$1" | while read -r old; do
    drop "$old" || echo "cannot remove the old backup $old" >&2
  done
}

# More than are kept are there when fewer are asked for now. They go first, since a volume that is full of them takes no other;
# but for a newest one that is damaged nothing goes.
make_room() {
  newest=$(of_this | head -n 1)
  [ -z "$(surplus "$KEEP")" ] || [ -n "$(damage "$newest")" ] || keep_newest "$KEEP"
}

# A kill between the going of a backup and the coming of the one that takes its place leaves neither: it gets its name back.
put_back() {
  [ -f replaced.partial/manifest.json ] || return 0
  old=$(field replaced.partial/manifest.json id)
  case $old in '' | .* | *.partial | *[!A-Za-z0-9._-]*) return 0 ;; esac
  [ ! -e "$old" ] && [ -z "$(damage replaced.partial)" ] || return 0
  mv -T replaced.partial "$old" || fail VolumeUnusable "cannot put back the backup $old, which is in replaced.partial"
}

# Tells of the backup, once its name is written through, too. A last one takes no other's place: who deletes an object to
# go back to an older backup would lose that one to it.
done_with() {
  sync . || fail VolumeUnusable "cannot write the name of the backup $BACKUP_ID through to its volume"
  beside=$((KEEP - 1))
  [ "${FINAL:-}" != yes ] || { beside=$KEEP; rm -f .closed-*; }
  keep_newest "$beside"
  report "{$(summary "$BACKUP_ID")}"
  exit 0
}

put_back
# What others left half done; should one of them be alive yet, it finds its work gone, all of it.
for left in *.partial; do
  [ ! -e "$left" ] || drop "$left"
done
# Which one this follows: it may be removed for this one before the operator has noted that there is a newer one.
previous=$(of_this | grep -Fvx "$BACKUP_ID" | head -n 1)
[ -n "$previous" ] || [ ! -f "$BACKUP_ID/manifest.json" ] || previous=$(field "$BACKUP_ID/manifest.json" previous)
whole=
if [ -f "$BACKUP_ID/manifest.json" ]; then
  if [ -z "$(damage "$BACKUP_ID")" ]; then
    whole=yes
    [ "${FINAL:-}" = yes ] || done_with
  else
    drop "$BACKUP_ID" || fail VolumeUnusable "cannot remove the damaged backup $BACKUP_ID"
  fi
fi
make_room
mkdir "$partial" || fail VolumeUnusable "cannot write to the backup volume"
connect
if [ "${FINAL:-}" = yes ]; then
  # What was written since is in no backup: it is the last one only while the server is closed and nobody is to open it.
  if [ "$whole" = yes ] && [ ! -e "$before" ] && is_closed; then
    rm -rf "$partial"
    done_with
  fi
  close
fi
later_than_all
dump
[ "${FINAL:-}" != yes ] || is_closed \
  || fail ServerRestarted "the server was opened to writes, or started again, while it was dumped"
describe
waits sync "$partial/dump.sql.gz" "$partial/manifest.json" "$partial" \
  || fail VolumeUnusable "cannot write the backup through to its volume"
text=$(mismatch "$partial")
[ -z "$text" ] || fail VolumeUnusable "what was written is not what is read: $text"
# The server, closed, has all that is in the one that goes.
[ "$whole" != yes ] || mv -T "$BACKUP_ID" replaced.partial \
  || fail VolumeUnusable "cannot take the place of the backup $BACKUP_ID"
mv -T "$partial" "$BACKUP_ID" \
  || { mv -T replaced.partial "$BACKUP_ID"; fail VolumeUnusable "cannot name the backup $BACKUP_ID"; }
rm -rf replaced.partial
done_with
