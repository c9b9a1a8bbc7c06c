#!/usr/bin/env bash
# A machine of its own for the runbook's blocks of commands: this machine's files with what is written going to memory, its own
# network, processes and host name. Root's; within `unshare --mount --net --uts --pid --fork`.
#
#   machine.sh BLOCKS PROGRAMS SOURCE     BLOCKS: a folder of NAME.sh; for each that has run, NAME.ran is made there
set -eu

blocks=$(realpath "$1") programs=$(realpath "$2") source=$(realpath "$3")

if [ -z "${ON_MACHINE:-}" ]; then
    folder=$blocks/machine
    mkdir "$folder"
    mount -t tmpfs -o size=3g runbook "$folder"
    mkdir "$folder/upper" "$folder/work" "$folder/root"
    mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" runbook "$folder/root"
    mount -t proc proc "$folder/root/proc"
    mount --rbind /dev "$folder/root/dev"
    mount -t tmpfs runbook "$folder/root/run"
    # Wherever they are: the overlay has this machine's first filesystem only.
    for place in "$source" "$programs"; do
        mkdir -p "$folder/root$place"
        mount --bind "$place" "$folder/root$place"
        mount -o remount,bind,ro "$folder/root$place"
    done
    # What is done there is seen by the test.
    mkdir -p "$folder/root$blocks"
    mount --bind "$blocks" "$folder/root$blocks"
    ip link set lo up
    # The three machines of samples/three-machines.
    for number in 1 2 3; do ip address add "10.0.0.$number/32" dev lo; done
    hostname localhost
    ON_MACHINE=1 chroot "$folder/root" bash "$source/loadtest/tests/runbook/machine.sh" "$blocks" "$programs" "$source"
    exit
fi

# What a block says goes to its file, and to whoever wants to know why it failed.
now=begin
say() { printf '%s\n' "$*" >&2; }
trap 'status=$?; [ $status = 0 ] || { say "FAILED: $now"; tail -n 30 "$blocks/${now#after }.out" >&2 || true; }' EXIT

# Runs a block in this shell: what it exports, those after it have.
block() {
    now=$1
    # shellcheck disable=SC1090
    . "$blocks/$1.sh" >"$blocks/$1.out" 2>&1
    touch "$blocks/$1.ran"
    now="after $1"
}

# The same at a terminal, where somebody answers every question with yes.
block_at_terminal() {
    now=$1
    yes y | script -qec "bash -eu $blocks/$1.sh" /dev/null >"$blocks/$1.out" 2>&1
    touch "$blocks/$1.ran"
    now="after $1"
}

# In a block: an example that stands there, and what it is here.
here() {
    grep -qF "$2" "$blocks/$1.sh" || { say "no $2 in $1"; return 1; }
    sed -i "s/$2/$3/" "$blocks/$1.sh"
}

until_true() {
    for _ in $(seq 600); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    say "waited in vain: $*"
    return 1
}

expect() { grep -qE "$2" "$blocks/$1.out" || { say "$1 does not say: $2"; now=$1; return 1; }; }

has_line() { grep -qF "$1" "$2"; }
metric_is() { curl -fsS "$1/metrics" | grep -qx "$2"; }
is_up() { sluicectl edges list | grep -E "^$1 +up"; }

export PATH=$source/loadtest/tests/runbook/stand-ins:/usr/sbin:/sbin:$PATH PROGRAMS=/opt/programs HOME=/root
mkdir -p /opt/sluice "$PROGRAMS" /var/backups
cp -r "$source"/{deploy,Makefile,LICENSE} "$source"/*.md /opt/sluice
# Smaller: this machine's disk is memory.
for program in sluice-coordinator sluice-edge sluicectl; do strip -o "$PROGRAMS/$program" "$programs/$program"; done
cd /opt/sluice
mkdir -p /srv/sluice/files
mount -t tmpfs -o mode=0755 store /srv/sluice/files

# One machine, without etcd.
block first-installation
expect first-installation '^Hello from Sluice\.$'
# Two good answers after its first silence.
until_true curl -fsS http://127.0.0.1:8081/readyz
block look-first
expect look-first '"ready":true'
expect look-first '^edge-1 +up'
block store
expect store 'sluice_edge_degraded 0'
expect store '/srv/sluice/files is a mountpoint'
id=$(curl -sS -D - -o /dev/null http://localhost:8080/download/public/hello.txt | sed -n 's/^x-request-id: \([^\r]*\).*/\1/ip')
curl -sSL -o /dev/null -H "X-Request-Id: $id" http://localhost:8080/download/public/hello.txt
until_true has_line "$id" /var/log/sluice-edge/access.jsonl
until_true has_line "$id" /var/log/stand-in/sluice-coordinator
here one-request McHxV7Yv-ueHpbLYrOEWCw "$id"
block one-request
expect one-request '"message":"call".*public/hello\.txt'
expect one-request '"file":"public/hello\.txt"'
systemctl stop sluice-edge sluice-coordinator

# Three machines: etcd, Redis, one coordinator and one edge of them.
mkdir /root/keys
(cd /root/keys && block keys-of-etcd)
now='three machines'
for number in 1 2 3; do echo "10.0.0.$number edge-$number.edges.example" >>/etc/hosts; done
echo '127.0.0.1 downloads.example' >>/etc/hosts
cp deploy/samples/three-machines/*.toml /etc/sluice/
# Where commands of the runbook ask, and what they ask for.
sed -i -e 's/10\.0\.0\.1:9101/127.0.0.1:9101/' -e 's/10\.0\.0\.\*:9101/127.0.0.1:9101/' /etc/sluice/*.toml
sed -i '1i public_prefixes = ["reports", "old"]' /etc/sluice/coordinator.toml
echo coordinator-s-password >/etc/sluice/coordinator/etcd.password
echo edge-s-password >/etc/sluice/edge/etcd.password
echo redis://127.0.0.1:6379 >/etc/sluice/coordinator/redis.url
cp /root/keys/cluster.key /root/keys/coordinator.key /etc/sluice/coordinator
cp /root/keys/cluster.key /etc/sluice/edge
chmod 0600 /etc/sluice/coordinator/* /etc/sluice/edge/*
chown sluice-coordinator: /etc/sluice/coordinator/*
chown sluice-edge: /etc/sluice/edge/*
mkdir -p /srv/sluice/files/reports /srv/sluice/files/old
echo report >/srv/sluice/files/reports/2026.pdf
echo old >/srv/sluice/files/old/a.txt
redis-server --daemonize yes --dir /run --bind 127.0.0.1 --save '' --appendonly yes --maxmemory-policy noeviction \
    >/run/redis.log
systemctl start etcd etcd@2 etcd@3
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://10.0.0.1:2379
until_true etcdctl endpoint health
deploy/etcd-roles.sh roles >/dev/null
deploy/etcd-roles.sh coordinator coordinator </etc/sluice/coordinator/etcd.password >/dev/null
deploy/etcd-roles.sh edge edge-1 </etc/sluice/edge/etcd.password >/dev/null
echo root-s-password | deploy/etcd-roles.sh lock >/dev/null
unset ETCDCTL_ENDPOINTS
systemctl start sluice-coordinator sluice-edge
until_true is_up edge-1

block give-less
is_up edge-1 >/dev/null
block explain
expect explain edge-1
block take-one-out
expect take-one-out '"transfers":0'
systemctl start sluice-edge
sluicectl edges undrain edge-1 >/dev/null
until_true is_up edge-1
block upgrade
expect upgrade '"ready":true'
until_true is_up edge-1
block redis
expect redis '^PONG'
expect redis 'aof_enabled:1'
expect redis noeviction

# It is locked, as the roles are shipped.
export ETCDCTL_USER=root:root-s-password
block etcd
expect etcd '10\.0\.0\.3:2379 is healthy'
block etcd-quota
expect etcd-quota 'compacted revision'
block etcd-backup
expect etcd-backup 'Snapshot saved'

block_at_terminal takedown
expect takedown 'reports/2026\.pdf'
[ "$(curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/download/reports/2026.pdf)" = 403 ]
current_key() { sluicectl keys list | sed -n 's/^.*\(20[0-9-]*-[A-Za-z0-9_-]*\).* current .*/\1/p' | head -n 1; }
leaked=$(current_key)
here leaked-key 2026-11-26-0iUoWo "$leaked"
block leaked-key
has_another_key() { [ -n "$(current_key)" ] && [ "$(current_key)" != "$leaked" ]; }
until_true has_another_key

# On each member, with its own name and address.
sed -e 's/stop etcd$/stop etcd etcd@2 etcd@3/' "$blocks/etcd-restore.sh" >"$blocks/etcd-restore-1.sh"
for number in 2 3; do
    sed -e "s,systemctl stop etcd,true," -e "s,default,$number,g" -e "s,--name etcd-1,--name etcd-$number," \
        -e "s,peer-urls http://10.0.0.1,peer-urls http://10.0.0.$number," -e "s,start etcd,start etcd@$number," \
        "$blocks/etcd-restore.sh" >"$blocks/etcd-restore-$number.sh"
done
for number in 1 2 3; do block "etcd-restore-$number"; done
until_true metric_is http://127.0.0.1:8081 'sluice_etcd_up 1'
until_true metric_is http://127.0.0.1:9101 'sluice_etcd_up 1'
# Coordinators put back what the backup does not have.
is_put_back() { etcdctl get /sluice/revoked/ --prefix --keys-only | grep -q file/; }
until_true is_put_back
touch "$blocks/etcd-restore.ran"

systemctl stop sluice-edge sluice-coordinator etcd etcd@2 etcd@3
redis-cli shutdown nosave >/dev/null 2>&1 || true
