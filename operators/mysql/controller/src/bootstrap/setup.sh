#!/bin/sh
# Makes this machine a member of its cluster: a MySQL server on the data volume that comes up read-only and lets the
# operator in by its client certificate alone. Run at the first boot, and with `boot` at each: it does then what one that was cut
# off has left to do, and only shows the certificate once all is done.
set -eu
. /etc/mysql/member/identity
data=/var/lib/mysql
done=/etc/mysql/member/done
options=/etc/mysql/mysql.conf.d
# Read before the cluster's options, which come after it.
memory=$options/zy-memory.cnf
service=mysql
! systemctl cat mysqld.service > /dev/null 2>&1 || service=mysqld

say() { echo "mysql-member: $*" > /dev/console; }

# The first thing that mysqld has said against what it was asked, to us or to where its configuration sends it.
complaint() {
  { echo "$1"; tail -qn 30 /var/log/mysqld.log /var/log/mysql/error.log 2> /dev/null || true; } \
    | sed -n 's/.*\[ERROR\] \[[^]]*\] \[[^]]*\] //p' | head -n 1
}

# Whether mysqld gets the cluster's options.
reads() {
  id=$(grep '^server_id=' $options/zz-cluster.cnf)
  mysqld --print-defaults | tr ' ' '\n' | grep -Fqx -e "--$id"
}

# Does what may fail on a machine that has just booted and is busy, up to five times.
again() {
  tries=1
  until "$@"; do
    [ $tries -lt 5 ] || return 1
    tries=$((tries + 1))
    sleep 5
  done
}

# One line, written at once, so that nothing else on the console gets into it.
announce() {
  body=$(grep -v -e ----- "$data/member-cert.pem" | tr -d '\n')
  printf '\nMEMBER-CERTIFICATE-BEGIN %s %s MEMBER-CERTIFICATE-END\n' "$member" "$body" > /dev/console
}

# Gives InnoDB its share of the machine's memory, and says whether that has changed. Below 1 GiB MySQL's own default stays,
# below 4 it is a half.
share() {
  kib=$(sed -n 's/^MemTotal: *\([0-9]*\) kB$/\1/p' /proc/meminfo)
  tenths=7
  [ "$kib" -ge 4194304 ] || tenths=5
  pool=$((kib * tenths / 10))K
  [ "$kib" -ge 1048576 ] || pool=128M
  before=$(cat $memory 2> /dev/null || true)
  printf '[mysqld]\ninnodb_buffer_pool_size=%s\n' "$pool" > $memory
  [ "$before" != "$(cat $memory)" ]
}

# Whether the beginning of a disk can be read and is all zeros, as that of a new one is.
is_blank() {
  [ "$(head -c 4194304 "$1" | wc -c)" -eq 4194304 ] \
    && [ "$(head -c 4194304 "$1" | tr -d '\000' | head -c 1 | wc -c)" -eq 0 ]
}

# The data volume: the one disk of EBS that is not the root's. What has a file system keeps it, what is blank gets one,
# and anything else is left alone.
attach() {
  root=$(lsblk -nrso NAME "$(findmnt -nvo SOURCE /)" 2> /dev/null | tail -n 1)
  tries=0
  while [ $tries -lt 150 ]; do
    for device in /dev/sdf /dev/xvdf /dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol*; do
      [ -b "$device" ] || continue
      case $(basename "$(readlink -f "$device")") in "${root:-/}"*) continue ;; esac
      if [ -z "$(blkid -p "$device")" ] && is_blank "$device"; then mkfs.ext4 -q "$device"; fi
      uuid=$(blkid -p -s UUID -o value "$device" || true)
      [ -n "$uuid" ] || { say "$device has data and no file system: it is left alone"; return 1; }
      grep -q "^UUID=$uuid $data " /etc/fstab || echo "UUID=$uuid $data auto noatime,nofail 0 2" >> /etc/fstab
      mount "$data"
      return 0
    done
    tries=$((tries + 1))
    sleep 2
  done
  say "the data volume has not appeared as /dev/sdf"
  return 1
}

if [ "${1:-}" = boot ] && [ -e $done ]; then
  # It may be a machine of another type by now.
  ! share || systemctl restart "$service" || say "$service does not start again: $(complaint "")"
  announce
  exit
fi
step="preparing the data volume"
trap 'status=$?; [ $status = 0 ] || say "the setup failed with status $status while $step"' EXIT
say "setting up $member"
# From here on the next boot goes on with it.
again systemctl enable mysql-member.service
systemctl stop "$service" || true
mkdir -p "$data" /var/lib/mysql-files
mountpoint -q "$data" || attach
chown mysql:mysql "$data" /var/lib/mysql-files
chmod 750 "$data" /var/lib/mysql-files
share || true
step="checking mysqld's options"
# Oracle's my.cnf for RPMs includes no folder, and that of others not this one.
reads || printf '\n!includedir %s\n' "$options" >> /etc/my.cnf
reads || { say "mysqld does not read $options: its my.cnf must include that folder"; exit 1; }
refusal=$(mysqld --validate-config --user=mysql 2>&1) || {
  say "mysqld refuses its options: $(complaint "$refusal")"
  exit 1
}
step="making a database in $data"
if [ ! -e "$data/.member-initialized" ]; then
  # What an initialization that was cut off has left goes; anything else is somebody's.
  found=$(find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found)
  [ -z "$found" ] || [ -e "$data/.member-begun" ] || { say "$data holds data of another server: it is left alone"; exit 1; }
  touch "$data/.member-begun"
  find "$data" -mindepth 1 -maxdepth 1 ! -name lost+found ! -name .member-begun -exec rm -rf {} +
  words=$(mysqld --initialize-insecure --user=mysql --init-file=/etc/mysql/member/accounts.sql 2>&1) || {
    say "mysqld cannot make a database in $data: $(complaint "$words")"
    exit 1
  }
  touch "$data/.member-initialized"
fi
step="making a certificate"
if [ ! -e "$data/member-cert.pem" ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 -subj "/CN=mysql-member" \
    -addext "subjectAltName=$names" -addext basicConstraints=critical,CA:FALSE \
    -keyout "$data/member-key.pem" -out "$data/member-cert.new"
  chown mysql:mysql "$data/member-key.pem" "$data/member-cert.new"
  mv "$data/member-cert.new" "$data/member-cert.pem"
fi
# Where SELinux is enforced mysqld may not read what was made on a volume without labels.
! command -v restorecon > /dev/null || restorecon -R "$data" /var/lib/mysql-files || true
step="starting $service"
# A copied server ends itself to be started anew; whatever ends, comes back.
mkdir -p "/etc/systemd/system/$service.service.d"
cat > "/etc/systemd/system/$service.service.d/member.conf" << 'UNIT'
[Unit]
# Without its volume it would begin on the folder beneath.
RequiresMountsFor=/var/lib/mysql
# First boot and copy start it more often than systemd allows in ten seconds, which leaves it down for good.
StartLimitIntervalSec=0
[Service]
Restart=always
RestartSec=1
RestartForceExitStatus=16
Environment=MYSQLD_PARENT_PID=1
UNIT
again systemctl daemon-reload
again systemctl enable "$service"
again systemctl restart "$service" || { say "$service does not start: $(complaint "")"; exit 1; }
touch $done
announce
