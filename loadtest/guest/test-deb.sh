#!/usr/bin/env bash
# The Debian packages that `make deb` made. In a fresh root without systemd: they install, their programs find all well, start
# and deliver, and what was installed is gone with them. Under a systemd of its own over this machine's files, of which none
# is changed: what it is told of over installation, upgrade and removal. Takes root, mmdebstrap, and two minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

packages=$(cd "${CARGO_TARGET_DIR:-target}/dist" && pwd)
lintian --fail-on error,warning "$packages"/*.deb
. loadtest/guest/own-systemd.sh
cp "$packages"/*.deb "$root$inside"
block 'apt install ./sluice-coordinator_*.deb ./sluice-edge_*.deb ./sluicectl_*.deb' >"$root$inside/installation.sh"

fresh=$folder/fresh
suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-trixie}") || suite=trixie
echo "Installing in a fresh root of Debian $suite, without systemd"
# openssl brings the libraries that programs may be linked with; netbase and the others are nothing that they need.
mmdebstrap --quiet --variant=minbase --include=curl,openssl,procps "$suite" "$fresh"
mkdir "$fresh/packages"
cp "$packages"/*.deb "$fresh/packages"
cat >"$fresh/packages/test.sh" <<'END_OF_TEST'
set -exuo pipefail
cd /packages
# Whoever started this is told nothing.
unset NOTIFY_SOCKET
# A command that must fail: of one behind an exclamation mark, `set -e` takes no notice.
no() { if "$@"; then return 1; fi; }
found() { find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /packages \) -prune -o -print | sort; }
# pattern: what there is more than before, but that, dpkg's own records, and users, which stay with what they own.
new() {
    local others='^/var/(lib/dpkg/|log/dpkg.log|cache/ldconfig)|^/etc/(passwd|shadow|group|gshadow|subuid|subgid)-?$|^/etc/\.pwd\.lock$'
    comm -13 before <(found) | grep -vE "$others|$1"
}
gone() { comm -23 before <(found) | grep .; }
found >before
no command -v systemd-sysusers

dpkg --install ./*.deb
[ -z "$(dpkg --verify sluice-coordinator sluice-edge sluicectl)" ]
[ "$(stat -c '%U %a' /etc/sluice/edge /var/lib/sluice-coordinator | xargs)" = 'sluice-edge 700 sluice-coordinator 700' ]

cp /usr/share/doc/sluice-coordinator/samples/one-machine/coordinator.toml /etc/sluice
# Nothing is mounted here: the cache is in ordinary memory.
sed -e '/^dir = /d' -e 's/^size = .*/size = "64MiB"/' /usr/share/doc/sluice-edge/samples/one-machine/edge.toml >/etc/sluice/edge.toml
sed -i 's/downloads\.example/127.0.0.1/' /etc/sluice/*.toml
mkdir -p /srv/sluice/files/public
echo 'Hello from Sluice.' >/srv/sluice/files/public/hello.txt
as() { local user=$1; shift; setpriv --reuid "$user" --regid "$user" --clear-groups "$@"; }
until_done() { for _ in $(seq 200); do if "$@"; then return; fi; sleep 0.1; done; false; }
answers() { until_done curl -fsS "$1"; }
as sluice-coordinator sluice-coordinator --config /etc/sluice/coordinator.toml & coordinator=$!
answers http://127.0.0.1:8081/healthz
install -o sluice-edge -g sluice-edge -m 0600 /var/lib/sluice-coordinator/keys.jwks.json /var/lib/sluice-edge/
as sluice-edge sluice-edge --config /etc/sluice/edge.toml & edge=$!
answers http://127.0.0.1:9101/readyz
answers http://127.0.0.1:8081/readyz
[ "$(curl -fsSL http://127.0.0.1:8080/download/public/hello.txt)" = 'Hello from Sluice.' ]
until_done grep '"public/hello.txt"' /var/log/sluice-edge/access.jsonl

# Nothing fails, and nothing is warned of but the ports, which the programs have themselves, and this machine's own.
unexpected() { grep '^warn' checked | grep -vE '^warn +(listen|admin_listen|descriptors|confinement) '; }
for program in coordinator edge; do
    as "sluice-$program" sluicectl check --config "/etc/sluice/$program.toml" | tee checked || [ "${PIPESTATUS[0]}" = 1 ]
    grep ' 0 failures' checked
    no unexpected
done
kill "$edge" "$coordinator"
wait

dpkg --remove sluice-coordinator sluice-edge sluicectl
data='^/(var/lib/sluice-|var/log/sluice-edge|srv/sluice)'
no new "$data|^/etc/(sluice|logrotate.d/sluice)|^/(etc|var/lib)/systemd/.*/sluice-"
no gone
[ -e /etc/sluice/edge.toml ] && [ -e /etc/logrotate.d/sluice ]
dpkg --purge sluice-coordinator sluice-edge sluicectl
no new "$data"
no gone
[ ! -e /etc/sluice ] && [ -e /var/lib/sluice-coordinator/state.redb ] && [ -e /srv/sluice/files/public/hello.txt ]
END_OF_TEST
if ! systemd-nspawn --quiet --directory "$fresh" --register=no --keep-unit --private-network --pipe \
    --system-call-filter="$landlock" bash /packages/test.sh >"$folder/fresh.log" 2>&1; then
    tail -n 60 "$folder/fresh.log" >&2
    echo 'FAILED: the packages in a fresh root' >&2
    exit 1
fi

echo 'Installing under a systemd of its own'
if ! under_systemd 180 <<'END_OF_TEST'
state() { systemctl show --value -p "$1" "$2"; }
bash -exuo pipefail installation.sh
# Enabled, and not started without a configuration, which came later; which is no fault.
[ "$(systemctl is-enabled sluice-edge sluice-coordinator | xargs)" = 'enabled enabled' ]
[ "$(state ActiveState sluice-edge) $(state ConditionResult sluice-edge)" = 'inactive no' ]
no systemctl is-failed sluice-edge sluice-coordinator

sed -i 's/downloads\.example/localhost/' /etc/sluice/*.toml
mkdir -p /srv/sluice/files/public
echo 'Hello from Sluice.' >/srv/sluice/files/public/hello.txt
systemctl start sluice-coordinator
install -o sluice-edge -g sluice-edge -m 0600 /var/lib/sluice-coordinator/keys.jwks.json /var/lib/sluice-edge/
systemctl start sluice-edge
for _ in $(seq 100); do if curl -fsS http://127.0.0.1:8081/readyz; then break; fi; sleep 0.1; done
[ "$(curl -fsSL http://localhost:8080/download/public/hello.txt)" = 'Hello from Sluice.' ]

# Over an upgrade, what runs is exchanged, and what was stopped or disabled stays so.
edge=$(state MainPID sluice-edge)
systemctl stop sluice-coordinator
dpkg --install ./*.deb
[ "$(state ActiveState sluice-edge)" = active ] && [ "$(state MainPID sluice-edge)" != "$edge" ]
[ "$(state ActiveState sluice-coordinator)" = inactive ]
systemctl disable sluice-coordinator
dpkg --install ./sluice-coordinator_*.deb
no systemctl is-enabled sluice-coordinator

systemctl enable sluice-coordinator.socket
dpkg --remove sluice-coordinator sluice-edge sluicectl
no pgrep -x sluice-edge
no grep ' /var/cache/sluice ' /proc/mounts
[ ! -e /var/cache/sluice ] && [ -e /etc/sluice/edge.toml ] && [ -e /var/log/sluice-edge/access.jsonl ]
dpkg --purge sluice-coordinator sluice-edge sluicectl
[ ! -e /etc/sluice ] && [ -e /var/lib/sluice-coordinator/state.redb ]
[ -z "$(find /etc/systemd/system -name 'sluice-*' ! -name 'sluice-test.*')" ]
END_OF_TEST
then
    echo 'FAILED: the packages under systemd' >&2
    exit 1
fi
echo 'Installed, found well, delivered, exchanged by an upgrade, and removed without a trace but data.'
