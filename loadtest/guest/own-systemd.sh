# To be sourced, by root: this machine's files in a root of their own, of which what is changed goes to memory and with the
# script, and commands in there under a systemd of their own (systemd-nspawn).
#
#   $root                            where that root is; its folder $inside is there for the test
#   block FIRST_LINE                 the runbook's block of commands that begins so
#   under_systemd SECONDS <COMMANDS  runs them in $inside by bash -eux; on failure says what they said, and fails
folder=$(mktemp -d "${TMPDIR:-/tmp}/sluice-root.XXXXXX")
root=$folder/root
inside=/opt/sluice-test

clean_up() {
    umount "$root" 2>/dev/null || true
    umount "$folder/changes" 2>/dev/null || true
    rm -rf --one-file-system "$folder"
}
trap clean_up EXIT

mkdir "$folder/changes" "$root"
mount -t tmpfs -o size=2g sluice-root "$folder/changes"
mkdir "$folder/changes/upper" "$folder/changes/work"
mount -t overlay -o "lowerdir=/,upperdir=$folder/changes/upper,workdir=$folder/changes/work" sluice-root "$root"
mkdir -p "$root$inside"
# Where this machine is a container's, services may not be started by packages; here they may.
rm -f "$root/usr/sbin/policy-rc.d"

# What programs ask of the kernel when they confine themselves, which not every systemd-nspawn leaves them.
landlock='landlock_create_ruleset landlock_add_rule landlock_restrict_self'

block() {
    awk -v first="$1" '/^```$/ { inside = 0 } last == "```sh" && $0 == first { inside = 1 } inside; { last = $0 }' deploy/RUNBOOK.md |
        grep .
}

under_systemd() {
    local seconds=$1
    {
        cat <<'END_OF_START'
#!/usr/bin/env bash
cd "$(dirname "$0")"
exec >test.log 2>&1
set -exuo pipefail
trap 'echo $? >result; systemctl --no-block exit 0 || systemctl poweroff --force --force' EXIT
hostname localhost
# A command that must fail: of one behind an exclamation mark, `set -e` takes no notice.
no() { if "$@"; then return 1; fi; }
END_OF_START
        cat
    } >"$root$inside/test.sh"
    chmod +x "$root$inside/test.sh"
    cat >"$root/etc/systemd/system/sluice-test.service" <<END_OF_UNIT
[Service]
Type=oneshot
ExecStart=$inside/test.sh
TimeoutStartSec=$seconds
END_OF_UNIT
    # Nothing else of what this machine starts.
    cat >"$root/etc/systemd/system/sluice-test.target" <<'END_OF_UNIT'
[Unit]
Requires=sysinit.target dbus.socket
Wants=sluice-test.service
After=sysinit.target
END_OF_UNIT
    timeout $((seconds + 60)) systemd-nspawn --quiet --directory "$root" --register=no --keep-unit --private-network \
        --console=pipe --system-call-filter="$landlock" --boot systemd.unit=sluice-test.target \
        >"$folder/console" 2>&1 || true
    if [ "$(cat "$root$inside/result" 2>/dev/null)" != 0 ]; then
        tail -n 40 "$folder/console" "$root$inside/test.log" >&2 || true
        return 1
    fi
}
