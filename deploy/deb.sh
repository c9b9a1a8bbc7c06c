#!/usr/bin/env bash
# Debian packages of what was built, in target/dist: sluice-coordinator, sluice-edge, and the operators' tool sluicectl. They
# have what deploy/install.sh installs, where Debian wants it. The same programs give the same packages.
#
#   deploy/deb.sh            PROGRAMS (target/release): the folder they were built into; MAINTAINER ("Name <address>");
#                            COMPRESSION (xz), as of dpkg-deb -Z
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
built=${PROGRAMS:-$target/release}
maintainer=${MAINTAINER:-The Sluice authors <sluice@localhost>}
upstream=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
version=$upstream-1
machine=$(dpkg --print-architecture)
# When its last change was made: for every file in it.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
# What several threads compress depends on how many they are.
export SOURCE_DATE_EPOCH DPKG_DEB_THREADS_MAX=1

mkdir -p "$target/dist"
dist=$(cd "$target/dist" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# As dpkg-shlibdeps wants to find it: a folder a package beneath debian/.
mkdir -p "$work/programs" "$work/debian"
for program in sluice-coordinator sluice-edge sluicectl; do
    if [ ! -x "$built/$program" ]; then
        echo "$built/$program is missing; run: make build" >&2
        exit 1
    fi
    strip --strip-unneeded --remove-section=.comment -o "$work/programs/$program" "$built/$program"
done
all=$work/all
DESTDIR=$all PREFIX=/usr PROGRAMS=$work/programs deploy/install.sh
mkdir "$all/usr/share/zsh/vendor-completions"
mv "$all"/usr/share/zsh/site-functions/* "$all/usr/share/zsh/vendor-completions"

# What both programs' packages have of the documents, each in a folder of its own.
documents=$all/usr/share/doc/sluice
rm "$documents/LICENSE"
share() {
    local own=$work/debian/$1/usr/share/doc/$1
    shift
    mkdir -p "$own"
    (cd "$documents" && cp -r "$@" "$own")
}
share sluice-coordinator README.md SECURITY.md RUNBOOK.md SETTINGS.md samples prometheus grafana container helm
share sluice-edge README.md SECURITY.md RUNBOOK.md SETTINGS.md samples
install -D -m 0755 -t "$work/debian/sluice-coordinator/usr/share/doc/sluice-coordinator/examples" "$documents/etcd-roles.sh"
rm -r "$documents"

# package, patterns of paths beneath the root: what is its own.
take() {
    local package=$1 path
    shift
    for path in "$@"; do
        mkdir -p "$work/debian/$package/$(dirname "${path#"$all/"}")"
        mv "$path" "$work/debian/$package/${path#"$all/"}"
    done
}
of_program() {
    take "$1" "$all/usr/bin/$2" "$all"/usr/share/man/man1/"$2"*.1 "$all/usr/share/bash-completion/completions/$2" \
        "$all/usr/share/zsh/vendor-completions/_$2" "$all/usr/share/fish/vendor_completions.d/$2.fish"
}
of_program sluice-coordinator sluice-coordinator
of_program sluice-edge sluice-edge
of_program sluicectl sluicectl
take sluice-coordinator "$all"/usr/lib/systemd/system/sluice-coordinator*
take sluice-edge "$all"/usr/lib/systemd/system/{sluice-edge*,var-cache-sluice.mount} \
    "$all"/usr/lib/{sysctl.d,modules-load.d}/90-sluice.conf "$all"/etc/logrotate.d/sluice

# A unit's users and folders: of the lists for both programs, those of one.
of_one() {
    local other=sluice-edge
    if [ "$1" = sluice-edge ]; then other=sluice-coordinator; fi
    grep -v "^#" "$2" | grep -v -e "$other" -e "^. /etc/sluice/${other#sluice-} "
}
for package in sluice-coordinator sluice-edge; do
    for kind in sysusers tmpfiles; do
        mkdir -p "$work/debian/$package/usr/lib/$kind.d"
        of_one "$package" "$all/usr/lib/$kind.d/sluice.conf" >"$work/debian/$package/usr/lib/$kind.d/$package.conf"
    done
done
# The store is the edge's.
sed -i '\,/srv/sluice,d' "$work/debian/sluice-coordinator/usr/lib/tmpfiles.d/sluice-coordinator.conf"
rm "$all"/usr/lib/{sysusers,tmpfiles}.d/sluice.conf
# Where its cache is mounted.
mkdir -p "$work/debian/sluice-edge/var/cache/sluice"
if find "$all" -type f | grep .; then
    echo 'These are installed, and in no package; see deploy/deb.sh' >&2
    exit 1
fi

# package: the text of a file of deploy/debian, with the package's names in it.
filled() {
    local package=$1 of=${1#sluice-} name='Sluice coordinator' units folders
    if [ "$package" = sluice-edge ]; then name='Sluice edge'; fi
    units=$(cd "$work/debian/$package/usr/lib/systemd/system" && find . -maxdepth 1 -type f -printf '%P\n' | sort -r | xargs)
    # The innermost first.
    folders=$(awk '{ print $2 } $2 ~ "^/srv/" { print "/srv/sluice" }' \
        "$work/debian/$package/usr/lib/tmpfiles.d/$package.conf" | sort -r | xargs)
    sed -e "s,@package@,$package,g" -e "s,@name@,$name,g" -e "s,@configuration@,$of.toml,g" -e "s,@units@,$units,g" \
        -e "s,@folders@,$folders,g" "deploy/debian/$2"
}

# package: what both programs' packages have beside their files.
serve() {
    local package=$1 unit
    for unit in "$work/debian/$package"/usr/lib/systemd/system/*; do
        sed -i "s,/usr/share/doc/sluice/,/usr/share/doc/$package/," "$unit"
    done
    mkdir "$work/debian/$package/DEBIAN"
    for script in postinst prerm postrm; do
        filled "$package" "$script" >"$work/debian/$package/DEBIAN/$script"
        chmod 0755 "$work/debian/$package/DEBIAN/$script"
    done
    mkdir "$work/debian/$package/usr/lib/systemd/system/$package.service.d"
    filled "$package" configured.conf >"$work/debian/$package/usr/lib/systemd/system/$package.service.d/configured.conf"
}
serve sluice-coordinator
serve sluice-edge

# package: libraries that its program is linked with, as packages.
libraries() {
    printf 'Source: sluice\n\nPackage: %s\nArchitecture: any\n' "$1" >"$work/debian/control"
    (cd "$work" && dpkg-shlibdeps -O "debian/$1"/usr/bin/*) | sed -n 's/^shlibs:Depends=//p'
}

# package, further dependencies, further fields: packs it.
pack() {
    local package=$1 tree=$work/debian/$1 more=$2 fields=$3 own=$work/debian/$1/usr/share/doc/$1
    mkdir -p "$tree/DEBIAN" "$own"
    awk '/^Permission/ { shown = 1 } shown && /^====/ { exit } shown' LICENSE | sed 's/^$/./; s/^/ /' >"$work/mit"
    # Its last line is empty.
    sed -i '$d' "$work/mit"
    sed -e "/@mit@/{r $work/mit" -e 'd}' deploy/debian/copyright >"$own/copyright"
    gzip -9n <CHANGELOG.md >"$own/changelog.gz"
    printf 'sluice (%s) unstable; urgency=medium\n\n  * Release %s; what a user would notice is in changelog.gz.\n\n -- %s  %s\n' \
        "$version" "$upstream" "$maintainer" "$(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")" |
        gzip -9n >"$own/changelog.Debian.gz"
    find "$tree/usr/share/man" -type f -exec gzip -9n {} +
    if [ -d "$tree/etc" ]; then (cd "$tree" && find etc -type f -printf '/%p\n' | sort) >"$tree/DEBIAN/conffiles"; fi
    install -D -m 0644 deploy/debian/lintian-overrides "$tree/usr/share/lintian/overrides/$package"
    (cd "$tree" && find . -type f ! -path './DEBIAN/*' ! -path './etc/*' -printf '%P\0' | sort -z | xargs -0 md5sum) \
        >"$tree/DEBIAN/md5sums"
    {
        echo "Package: $package"
        echo "Source: sluice"
        echo "Version: $version"
        echo "Architecture: $machine"
        echo "Maintainer: $maintainer"
        echo "Installed-Size: $(find "$tree" -path "$tree/DEBIAN" -prune -o -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')"
        echo "Depends: $(libraries "$package")$more"
        if [ -n "$fields" ]; then echo "$fields"; fi
        echo "Section: net"
        echo "Priority: optional"
        printf 'Description: '
        cat "deploy/debian/$package.description"
    } >"$tree/DEBIAN/control"
    find "$tree" -type d -exec chmod 0755 {} +
    find "$tree" -exec touch --no-dereference -d "@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Z"${COMPRESSION:-xz}" --build "$tree" "$dist" >/dev/null
}
rm -f "$dist"/*.deb
pack sluicectl '' ''
pack sluice-coordinator ', passwd' "Recommends: sluicectl (= $version)"
pack sluice-edge ', passwd' "Recommends: sluicectl (= $version)
Suggests: logrotate"
cd "$dist"
sums=$(find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum)
echo "$sums" | tee SHA256SUMS
