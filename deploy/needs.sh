#!/usr/bin/env bash
# Installs what building, testing, comparing or auditing needs, and only what is missing; says so before it does.
# Works as root or with sudo on Debian and its relatives; elsewhere it names what to install.
#
#   deploy/needs.sh build|demo|test|nfs|install|deb|test-deb|compare|instructions|fuzz|audit ...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
packages=()
# Installed too where Debian has them under this name.
packages_if_known=()

say() { printf '%s\n' "$*" >&2; }
# As a program: the shell's own commands do not count.
has() { type -P "$1" >/dev/null; }
# program, Debian package
want() { has "$1" || packages+=("$2"); }

want_python() {
    want python3 python3
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
}

for use in "$@"; do
    case $use in
    build)
        if ! has cargo; then
            say "The Rust toolchain is missing (cargo). Install it first: https://rustup.rs"
            exit 1
        fi
        want cc gcc
        # What cc links with; a package of its own.
        [ -e /usr/include/stdio.h ] || packages+=(libc6-dev)
        want pkg-config pkg-config
        # josekit links OpenSSL.
        if ! pkg-config --exists openssl 2>/dev/null; then packages+=(libssl-dev); fi
        # etcd's interface is compiled from its description, which needs those of protobuf itself.
        want protoc protobuf-compiler
        [ -e /usr/include/google/protobuf/descriptor.proto ] || packages+=(libprotobuf-dev)
        ;;
    demo)
        want curl curl
        ;;
    test)
        want curl curl
        want wget wget
        want aria2c aria2
        want axel axel
        want chromium chromium
        want kill procps
        want redis-server redis-server
        # A clock that tests move on.
        compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(libfaketime)
        want etcd etcd-server
        want etcdctl etcd-client
        # Hosts are network namespaces, and are cut off by packet filters; a machine for the runbook has all kinds.
        want nsenter util-linux
        # A terminal, for commands that ask.
        want script bsdutils
        if ! has ip && [ ! -x /sbin/ip ]; then packages+=(iproute2); fi
        if ! has nft && [ ! -x /usr/sbin/nft ]; then packages+=(nftables); fi
        # Callers are written in these languages.
        want php php-cli
        # Compiles a source file before it runs it: a JRE does not.
        want javac default-jdk-headless
        # Stores that hang are FUSE filesystems, which root mounts without help.
        [ "$(id -u)" -eq 0 ] || want fusermount3 fuse3
        # What judges units, alerts and profiles of system calls that are shipped.
        want systemd-analyze systemd
        want promtool prometheus
        want openssl openssl
        # Packages are made of the programs, and their scripts judged.
        want dpkg-shlibdeps dpkg-dev
        want strip binutils
        want shellcheck shellcheck
        /usr/bin/python3 -c 'import seccomp' 2>/dev/null || packages+=(python3-seccomp)
        want_python
        ;;
    nfs)
        want qemu-system-x86_64 qemu-system-x86
        want mmdebstrap mmdebstrap
        if ! has mke2fs && [ ! -x /sbin/mke2fs ]; then packages+=(e2fsprogs); fi
        # Part of a package of QEMU's up to Debian 12, one of its own since.
        if [ ! -x /usr/libexec/virtiofsd ] && [ ! -x /usr/lib/qemu/virtiofsd ]; then
            packages+=(qemu-system-common)
            packages_if_known+=(virtiofsd)
        fi
        # What the guest's packages are checked with; other systems than Debian may not have it.
        if [ ! -e /usr/share/keyrings/debian-archive-keyring.gpg ]; then packages+=(debian-archive-keyring); fi
        ;;
    install)
        want make make
        want curl curl
        want setpriv util-linux
        want systemd-nspawn systemd-container
        ;;
    deb)
        want dpkg-deb dpkg
        want dpkg-shlibdeps dpkg-dev
        want strip binutils
        ;;
    test-deb)
        want mmdebstrap mmdebstrap
        # What judges packages, and scripts.
        want lintian lintian
        want shellcheck shellcheck
        ;;
    compare)
        want wrk wrk
        # What asks over HTTP/2.
        want h2load nghttp2-client
        # Any of Debian's nginx flavours has secure_link.
        if ! has nginx && [ ! -x /usr/sbin/nginx ]; then packages+=(nginx-light); fi
        want taskset util-linux
        # What a store can give at most.
        want fio fio
        # What the coordinator replaces is a Python server.
        want_python
        # Stores that hang or are slow are FUSE filesystems, which root mounts without help.
        [ "$(id -u)" -eq 0 ] || want fusermount3 fuse3
        ;;
    fuzz)
        # libFuzzer is C++.
        want g++ g++
        ;;
    instructions)
        # Counts instructions, whatever else the machine does.
        want valgrind valgrind
        ;;
    audit) ;;
    *)
        say "usage: deploy/needs.sh build|demo|test|nfs|install|deb|test-deb|compare|instructions|fuzz|audit ..."
        exit 2
        ;;
    esac
done

if [ ${#packages[@]} -gt 0 ]; then
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo); fi
    if ! has apt-get || { [ ${#as_root[@]} -gt 0 ] && ! has sudo; }; then
        say "Please install these (Debian's names), then try again: ${packages[*]}"
        exit 1
    fi
    say "Installing with apt-get: ${packages[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
    for package in "${packages_if_known[@]}"; do
        if apt-cache show "$package" >/dev/null 2>&1; then packages+=("$package"); fi
    done
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -q --no-install-recommends "${packages[@]}" >&2
    hash -r
fi

# A tool that cargo compiles, where it is missing: takes some minutes once.
cargo_tool() {
    has "$1" && return
    say "Installing with cargo install --locked: $1 (compiles for some minutes)"
    cargo install --locked "$1"
}

# Python libraries for one use, in a folder of their own.
python_environment() {
    local venv=$target/$1-venv wanted=$2
    if cmp -s "$wanted" "$venv/installed.txt"; then return; fi
    say "Installing with pip into $venv: $(tr '\n' ' ' <"$wanted")"
    rm -rf "$venv"
    mkdir -p "$target"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$venv/installed.txt"
}

for use in "$@"; do
    case $use in
    test)
        cargo_tool cargo-nextest
        python_environment test loadtest/tests/python/requirements.txt
        ;;
    compare) python_environment compare benches/python/requirements.txt ;;
    audit) cargo_tool cargo-deny ;;
    esac
done
