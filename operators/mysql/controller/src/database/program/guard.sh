# Lets a server start on a data folder that is whole, and on no other: an image may make an empty one of its own, which
# looks like a server that works and has lost everything.
data=/var/lib/mysql
[ ! -d "$data/.mysql-operator" ] || fail DataFolderNotPrepared \
  "the data folder is being filled; the restore Job goes on with it"
[ -d "$data/mysql" ] || fail DataFolderNotPrepared \
  "the data folder is empty: the restore Job has to fill it first"
report '{"origin":"existing"}'
