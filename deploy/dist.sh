#!/usr/bin/env bash
# A release from what was built: target/dist/sluice-VERSION-MACHINE.tar.gz, to be unpacked at / or anywhere, with what is
# linked into the programs (sbom.json, CycloneDX) and checksums (SHA256SUMS). The same programs give the same archive.
#
#   deploy/dist.sh           PROGRAMS (target/release): the folder they were built into
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
name=sluice-$version-$(uname -m)
dist=$target/dist
# When its last change was made: for every file in it.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

# Packages of deploy/deb.sh stay.
rm -rf "$dist/root" "$dist"/*.tar.gz "$dist/sbom.json"
mkdir -p "$dist/root"
DESTDIR=$(cd "$dist/root" && pwd) PREFIX=/usr deploy/install.sh
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$epoch" --directory "$dist/root" . |
    gzip --no-name --best >"$dist/$name.tar.gz"
rm -rf "$dist/root"
host=$(rustc -vV | sed -n "s/^host: //p")
cargo metadata --locked --format-version 1 --filter-platform "$host" | python3 deploy/sbom.py >"$dist/sbom.json"
cd "$dist"
sums=$(find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum)
echo "$sums" | tee SHA256SUMS
