# Removes every container, volume and network with a label, and the files that belong to them.
# $1 the docker program, $2 LABEL=VALUE, $3 for how many seconds nothing must turn up, $4… files.
docker=$1 label=$2 quiet=$3
shift 3

# Whether anything was there, or a listing failed, which shows nothing.
pass() {
  found=
  objects=$("$docker" ps --all --quiet --filter "label=$label") || found=unknown
  [ -z "$objects" ] || { found=yes; "$docker" rm --force --volumes $objects; }
  objects=$("$docker" volume ls --quiet --filter "label=$label") || found=unknown
  [ -z "$objects" ] || { found=yes; "$docker" volume rm --force $objects; }
  objects=$("$docker" network ls --quiet --filter "label=$label") || found=unknown
  [ -z "$objects" ] || { found=yes; "$docker" network rm $objects; }
  [ "$found" != unknown ] || sleep 1
  [ -n "$found" ]
}

# A request of a process that was killed may still be under way: look again until nothing comes any more.
left=60 still=0
while [ "$left" -gt 0 ]; do
  left=$((left - 1))
  if pass; then still=0; continue; fi
  [ "$still" -lt "$quiet" ] || break
  still=$((still + 1))
  sleep 1
done
rm -f -- "$@"
[ "$left" -gt 0 ]
