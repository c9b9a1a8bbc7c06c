#!/usr/bin/env bash
# Runs a command in a guest that has what test machines often lack: a kernel with an NFS client, and a server for it
# that can be cut off. It is emulated, so it needs nothing of the machine, and no speed may be measured in it.
#
#   loadtest/guest/run.sh FOLDER COMMAND       as in   loadtest/guest/run.sh /tmp/x 'ls -l /mnt/nfs; dmesg | tail'
#
# COMMAND is run by bash, as root, in FOLDER, which guest and host share. In the guest
#   /srv/nfs                        is what the server has; files put there appear on the mount
#   /mnt/nfs                        is the mount, with the options in GUEST_MOUNT (default: ro,vers=4.2)
#   ip link set veth0 down          cuts the server off; `up` brings it back
#   echo 3 >/proc/sys/vm/drop_caches    empties the client's cache
# GUEST_KERNEL=newer takes the newer of the two kernels.
# Its output comes out here, and its exit status is this script's; 125 if it did not end (GUEST_SECONDS, default 600).
# A guest takes 10 to 20 s to start and end. What its kernel said is in nfs-guest/console.log in the target folder.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ $# -lt 2 ]; then
    echo "usage: loadtest/guest/run.sh FOLDER COMMAND" >&2
    exit 2
fi
share=$(cd "$1" && pwd)
shift
state=${CARGO_TARGET_DIR:-$here/../../target}/nfs-guest
"$here/image.sh" "$state"

run=$(mktemp -d "${TMPDIR:-/tmp}/sluice-guest.XXXXXX")
daemon=
stop() {
    [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true
    rm -rf "$run"
}
trap stop EXIT
printf '%s\n' "$*" >"$run/command"

# A part of QEMU's package up to Debian 12, a package of its own since. It wants root's rights.
virtiofsd=/usr/libexec/virtiofsd
[ -x "$virtiofsd" ] || virtiofsd=/usr/lib/qemu/virtiofsd
as_root=()
[ "$(id -u)" -eq 0 ] || as_root=(sudo)
"${as_root[@]}" "$virtiofsd" --socket-path="$run/share" -o source="$share" -o cache=auto >"$run/virtiofsd.log" 2>&1 &
daemon=$!
for _ in $(seq 100); do
    [ ! -S "$run/share" ] || break
    sleep 0.05
done
[ -S "$run/share" ] || { cat "$run/virtiofsd.log" >&2; exit 125; }

# Emulated by several threads, a processor may meet a breakpoint by which another has just changed the kernel's text, and which
# the kernel has forgotten: it panics. The newer does so one time in a few; it has one thread.
threads=multi
[ "${GUEST_KERNEL:-}" != newer ] || threads=single
kernel="root=/dev/nvme0n1 rw init=/init-of-guest console=ttyS0 panic=-1 quiet mitigations=off"
kernel+=" guest_mount=${GUEST_MOUNT:-ro,vers=4.2}"
# Serial ports: console, the command's output, its exit status.
timeout "${GUEST_SECONDS:-600}" "${as_root[@]}" qemu-system-x86_64 -M q35 -cpu max -smp 2 -m 2048 \
    -accel tcg,thread=$threads,tb-size=512 -nodefaults -no-user-config -display none -nic none -no-reboot \
    -object memory-backend-memfd,id=memory,size=2048M,share=on -numa node,memdev=memory \
    -chardev socket,id=share,path="$run/share" -device vhost-user-fs-pci,chardev=share,tag=share \
    -drive if=none,id=root,file="$state/root.img",format=raw,snapshot=on -device nvme,drive=root,serial=root \
    -fw_cfg name=opt/sluice/command,file="$run/command" \
    -serial file:"$state/console.log" -serial stdio -serial file:"$run/status" \
    -kernel "$state/vmlinuz${GUEST_KERNEL:+-$GUEST_KERNEL}" -append "$kernel" </dev/null || echo "the guest was ended: $?" >&2

status=$(tr -dc 0-9 <"$run/status" 2>/dev/null || true)
if [ -z "$status" ]; then
    echo "The command did not end. The end of the guest's console ($state/console.log):" >&2
    tail -n 20 "$state/console.log" >&2
    exit 125
fi
exit "$status"
