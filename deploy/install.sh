#!/usr/bin/env bash
# Puts the programs, their manual pages and completions, systemd's units and the papers where they belong; starts nothing and configures nothing.
#
#   deploy/install.sh        DESTDIR: a root to install into; PREFIX (/usr/local): of the programs;
#                            PROGRAMS (target/release): the folder they were built into
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
programs=${PROGRAMS:-${CARGO_TARGET_DIR:-target}/release}
units=$prefix/lib/systemd/system
documents=$prefix/share/doc/sluice

for program in sluice-coordinator sluice-edge sluicectl; do
    if [ ! -x "$programs/$program" ]; then
        echo "$programs/$program is missing; run: make build" >&2
        exit 1
    fi
    install -D -m 0755 -t "$root$prefix/bin" "$programs/$program"
done

# What the build wrote, unless a program is newer: then a copy of its own, for the build's folder may be another user's.
papers=$programs/papers
if ! [ "$papers" -nt "$programs/sluicectl" ]; then
    papers=$(mktemp -d)
    trap 'rm -rf "$papers"' EXIT
    PROGRAMS=$programs PAPERS=$papers deploy/papers.sh
fi
install -D -m 0644 -t "$root$prefix/share/man/man1" "$papers"/man1/*.1
install -D -m 0644 -t "$root$prefix/share/bash-completion/completions" "$papers"/bash/*
install -D -m 0644 -t "$root$prefix/share/zsh/site-functions" "$papers"/zsh/_*
install -D -m 0644 -t "$root$prefix/share/fish/vendor_completions.d" "$papers"/fish/*.fish

install -d -m 0755 "$root$units"
for unit in deploy/systemd/*.{service,socket,mount}; do
    # Where the programs and papers are is written there once; it is the packages' place unless PREFIX says otherwise.
    sed -e "s,=/usr/bin/sluice,=$prefix/bin/sluice," -e "s,file:///usr/share/doc/sluice,file://$documents," "$unit" |
        install -m 0644 /dev/stdin "$root$units/$(basename "$unit")"
done
install -D -m 0644 deploy/systemd/sysusers.conf "$root$prefix/lib/sysusers.d/sluice.conf"
install -D -m 0644 deploy/systemd/tmpfiles.conf "$root$prefix/lib/tmpfiles.d/sluice.conf"
install -D -m 0644 deploy/kernel/90-sluice.conf "$root$prefix/lib/sysctl.d/90-sluice.conf"
install -D -m 0644 deploy/kernel/modules.conf "$root$prefix/lib/modules-load.d/90-sluice.conf"
install -D -m 0644 deploy/systemd/logrotate.conf "$root/etc/logrotate.d/sluice"
install -D -m 0644 -t "$root$documents" README.md CHANGELOG.md SECURITY.md LICENSE deploy/RUNBOOK.md deploy/SETTINGS.md \
    deploy/METRICS.md
for folder in samples prometheus grafana container helm; do
    (cd deploy && find "$folder" -type f -exec install -D -m 0644 {} "$root$documents/{}" \;)
done
install -D -m 0755 -t "$root$documents" deploy/etcd-roles.sh
