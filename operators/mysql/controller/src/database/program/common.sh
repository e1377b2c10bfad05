# What the programs of a database's Pods begin with. POSIX sh and what an image of MySQL has beside it. Environment:
# SCRATCH, a folder for small files that hold no data; by default one in /tmp.
set -u
umask 007
export LC_ALL=C
message=/dev/termination-log
client=/etc/mysql-client/client.cnf
scratch=${SCRATCH:-/tmp/mysql-operator}

# The inside of a JSON string: one line of printable ASCII, not long.
json() { printf '%s' "$1" | tr '\n\t' '  ' | tr -cd ' -~' | cut -c 1-1000 | sed 's/[\\"]/\\&/g'; }

# Last words: one JSON object on one line, for the operator.
report() {
  printf '%s\n' "$1"
  [ ! -w "$message" ] || printf '%s\n' "$1" > "$message"
}

# What a program puts back when it gives up.
undo() { :; }

# fail REASON TEXT: gives up. Status 64 says that trying again is of no use, 75 that it may be.
fail() {
  trap '' TERM INT
  undo
  report "{\"reason\":\"$1\",\"error\":\"$(json "$2")\"}"
  case $1 in
    AccessDenied | BackupDamaged | BackupMissing | DataFolderForeign | DataFolderNotPrepared | DatabaseDiffers \
      | DatabaseMissing | ImageLacksProgram | Misused) exit 64 ;;
    *) exit 75 ;;
  esac
}

# The first process of a container ignores what it does not handle.
trap 'fail Interrupted "it was told to end before it was done"' TERM INT

need() {
  for program in "$@"; do
    command -v "$program" > /dev/null || fail ImageLacksProgram \
      "the image has no $program: use one like the official MySQL images"
  done
}

# waits COMMAND…: runs it so that a signal is heard meanwhile; answers with its status.
waits() {
  "$@" &
  wait $!
}

# A folder of ours for small files; with a server's user if we may give it away.
make_scratch() {
  rm -rf "$scratch"
  mkdir -p "$scratch" || fail VolumeUnusable "cannot write to $scratch: give the container an emptyDir at /tmp"
}

# field FILE NAME: the value of one line of a manifest.
field() { sed -n "s/^  \"$2\": \"\{0,1\}\([^\",]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1"; }

# One line of JSON, without the outer braces, that tells of the backup in FOLDER.
summary() {
  printf '"id":"%s","time":"%s","bytes":%s,"sha256":"%s","version":"%s"' "$(field "$1/manifest.json" id)" \
    "$(field "$1/manifest.json" time)" "$(field "$1/manifest.json" bytes)" "$(field "$1/manifest.json" sha256)" \
    "$(field "$1/manifest.json" version)"
}

# The bytes of DATABASE in digits: a name may have every character, and a line of a manifest may not.
database_digits() { printf '%s' "$DATABASE" | od -An -v -tx1 | tr -d ' \n'; }

# of_database FOLDER: whether the backup in it is one of DATABASE. Older manifests have the name's letters alone.
of_database() {
  digits=$(field "$1/manifest.json" databaseHex)
  if [ -n "$digits" ]; then
    [ "$digits" = "$(database_digits)" ]
  else
    grep -Fxq "  \"database\": \"$(json "$DATABASE")\"," "$1/manifest.json"
  fi
}

# Newest first: the time and the id of every backup that was ever completed. One whose manifest does not say when comes
# first: what it is, is for somebody to find out, and not to be passed over.
backups() {
  for manifest in */manifest.json; do
    id=${manifest%/manifest.json}
    case $id in *.partial) continue ;; esac
    [ -f "$manifest" ] || continue
    [ "$(tail -n 1 "$manifest")" = '}' ] && time=$(field "$manifest" time) || time=
    printf '%s %s\n' "${time:-unknown}" "$id"
  done | sort -r
}

checksum() { sha256sum < "$1" | cut -d ' ' -f 1; }

# ends_well COMMAND…: whether the dump that a command prints ends with what mysqldump writes last.
ends_well() { "$@" 2> /dev/null | tail -c 200 | grep -q '^-- Dump completed'; }

# mismatch FOLDER: in what the backup in it differs from its manifest; nothing if it does not.
mismatch() {
  manifest=$1/manifest.json
  dump=$1/dump.sql.gz
  if [ "$(tail -n 1 "$manifest")" != '}' ]; then
    echo "$manifest is cut short"
  elif [ ! -f "$dump" ]; then
    echo "there is no $dump"
  elif [ "$(wc -c < "$dump" | tr -d ' ')" != "$(field "$manifest" bytes)" ]; then
    echo "$dump is not as long as its manifest says"
  elif [ "$(checksum "$dump")" != "$(field "$manifest" sha256)" ]; then
    echo "$dump does not have the SHA-256 of its manifest"
  fi
}

# damage FOLDER: what is wrong with the backup in it; nothing if it is whole.
damage() {
  text=$(mismatch "$1")
  [ -n "$text" ] || ends_well gzip -dc "$1/dump.sql.gz" || text="$1/dump.sql.gz does not end as a dump does"
  echo "$text"
}

# The last words of a program in FILE, the server's errors first.
last_words() { { grep -E '\[ERROR\]|ERROR|rror:' "$1" || cat "$1"; } 2> /dev/null | tail -n 3; }
