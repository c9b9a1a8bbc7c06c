#!/usr/bin/env bash
# Makes the guest's disk and kernels where they are missing, or were made by another version of this file or of `init`:
# a small Debian with NFS client, NFS server, nginx and TLS in its kernel, and a newer kernel for the same disk. Takes two
# minutes and root's rights; says what it does.
#
#   loadtest/guest/image.sh FOLDER       makes FOLDER/root.img, FOLDER/vmlinuz and FOLDER/vmlinuz-newer
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1

# Programs built here must find their C library there: the same Debian, or one that is newer than most others.
suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "${VERSION_CODENAME:-trixie}") || suite=trixie

# Whose kernel takes other keys for TLS beneath a socket (Linux 6.14).
newer=forky

packages=(
    # The smallest kernel with NFS on both sides, TLS, virtiofs and io_uring.
    linux-image-cloud-amd64
    nfs-kernel-server iproute2 kmod procps
    # josekit links its library; a client that updates its keys.
    openssl
    nginx-light
    # A client of TLS; and for commands by hand.
    curl strace
)

stamp=$({ cat "$here/image.sh" "$here/init" && echo "$suite"; } | sha256sum)
if [ -e "$folder/root.img" ] && [ "$(cat "$folder/made-from" 2>/dev/null)" = "$stamp" ]; then exit 0; fi

[ "$(id -u)" -eq 0 ] || exec sudo -- "${BASH_SOURCE[0]}" "$@"
echo "Making the guest's disk in $folder: Debian $suite with ${packages[*]} (about two minutes)" >&2
mkdir -p "$folder"
rm -f "$folder/made-from"
tree=$(mktemp -d "$folder/tree.XXXXXX")
newer_tree=$(mktemp -d "$folder/tree.XXXXXX")
trap 'rm -rf "$tree" "$newer_tree"' EXIT

# The kernel is started as it is: no initial memory disk is needed, nor are manuals.
INITRD=No mmdebstrap --quiet --variant=minbase --include="$(IFS=,; echo "${packages[*]}")" \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$tree" >&2
install -m 755 "$here/init" "$tree/init-of-guest"
mv "$tree"/boot/vmlinuz-* "$folder/vmlinuz"
# Of the newer suite the kernel and its modules alone, with the smallest of what may make an initial memory disk. It may be
# one that is being prepared, and a mirror's list of it older than such lists are to be.
mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
    --include=linux-image-cloud-amd64,tiny-initramfs "$newer" "$newer_tree" >&2
modules=("$newer_tree"/usr/lib/modules/*)
mv "$modules/vmlinuz" "$folder/vmlinuz-newer"
mv "$modules" "$tree/usr/lib/modules"
chroot "$tree" depmod "${modules##*/}"
# Without a journal: it is thrown away after each run.
PATH=$PATH:/sbin:/usr/sbin mke2fs -q -F -t ext4 -O ^has_journal -d "$tree" "$folder/root.img" 2G >&2
echo "$stamp" >"$folder/made-from"
