#!/usr/bin/env bash
# What of the runbook takes systemd, as it is written there: the first installation and the change to sockets. Under a systemd
# of its own (systemd-nspawn) over this machine's files, of which none is changed; with it what the units promise. Takes root,
# a minute, and programs that are built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

programs=${PROGRAMS:-${CARGO_TARGET_DIR:-target}/release}
. loadtest/guest/own-systemd.sh
source=$root$inside
mkdir -p "$source/target/release"
cp -r deploy Makefile ./*.md LICENSE "$source"
cp "$programs"/{sluice-coordinator,sluice-edge,sluicectl} "$source/target/release"

block 'make build' >"$source/first-installation.sh"
# What it builds is built.
sed -i 's/^make build$/true/' "$source/first-installation.sh"
block 'systemctl stop sluice-coordinator' >"$source/sockets.sh"

echo 'Installing by the runbook, under a systemd of its own'
if ! under_systemd 180 <<'END_OF_TEST'
bash -exuo pipefail first-installation.sh | tee said
[ "$(tail -n 1 said)" = 'Hello from Sluice.' ]

# Each is told that the programs are ready, and hears of their rereading; huge pages are where the cache is.
[ "$(systemctl show --value -p Type,ActiveState sluice-edge | sort | xargs)" = 'active notify' ]
systemctl reload sluice-edge sluice-coordinator
grep ' /var/cache/sluice tmpfs ' /proc/mounts | grep huge=within_size
[ "$(stat -c %U /var/lib/sluice-edge/keys.jwks.json)" = sluice-edge ]
no setpriv --reuid sluice-edge --clear-groups cat /var/lib/sluice-coordinator/tickets.jwks.json

# With sockets that systemd holds, a restart refuses nobody.
bash -exuo pipefail sockets.sh
systemctl restart --no-block sluice-coordinator
for _ in $(seq 20); do
    curl -fsSL -m 20 http://localhost:8080/download/public/hello.txt
    sleep 0.2
done
# Longer than the watchdog waits: it was fed.
sleep 32
[ "$(systemctl show --value -p NRestarts sluice-edge sluice-coordinator | xargs)" = '0 0' ]
systemctl stop sluice-edge sluice-coordinator
[ "$(systemctl show --value -p Result sluice-edge sluice-coordinator | xargs)" = 'success success' ]
END_OF_TEST
then
    echo 'FAILED: the installation' >&2
    exit 1
fi
echo 'Installed, downloaded, reread, restarted without refusing anybody, watched and stopped.'
