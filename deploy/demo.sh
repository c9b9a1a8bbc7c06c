#!/usr/bin/env bash
# A whole Sluice on loopback: one coordinator, three edges, a folder of sample files; no etcd, no Redis.
# Downloads through it, kills an edge in the middle of a download, and stays up until Ctrl-C.
#
#   deploy/demo.sh [--once]      --once: end after the checks, with exit code 0 if they passed
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

once=false
case "${1-}" in
"") ;;
--once) once=true ;;
*)
    echo "usage: deploy/demo.sh [--once]" >&2
    exit 2
    ;;
esac

programs=${CARGO_TARGET_DIR:-target}/release
for program in sluice-coordinator sluice-edge; do
    if [ ! -x "$programs/$program" ]; then
        echo "$programs/$program is missing; run: make demo" >&2
        exit 1
    fi
done
programs=$(cd "$programs" && pwd)

# Configuration variables of the caller must not reach the demo's programs.
for variable in "${!SLUICE_@}"; do unset "$variable"; done

# --- what is started, and how it ends ---------------------------------------------------------------------------

folder=$(mktemp -d "${TMPDIR:-/tmp}/sluice-demo.XXXXXX")
declare -A pids=()

stop() {
    local name
    for name in "${!pids[@]}"; do kill -TERM "${pids[$name]}" 2>/dev/null || true; done
    # What has not drained in two seconds is killed.
    for name in "${!pids[@]}"; do
        for _ in $(seq 20); do
            kill -0 "${pids[$name]}" 2>/dev/null || continue 2
            sleep 0.1
        done
        kill -KILL "${pids[$name]}" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap stop EXIT

# Once its checks have passed, this is how it is to end.
passed=false
interrupted() {
    echo
    echo "Stopping."
    if $passed; then exit 0; fi
    exit "$1"
}
trap 'interrupted 130' INT
trap 'interrupted 143' TERM

fail() {
    echo "FAILED: $*" >&2
    for log in "$folder"/*.log; do
        echo "--- end of $(basename "$log")" >&2
        tail -n 15 "$log" >&2
    done
    exit 1
}

# name, program
start() {
    "$programs/$2" --config "$folder/$1.toml" >>"$folder/$1.log" 2>&1 &
    pids[$1]=$!
    # Its end is told by us, not by the shell.
    disown "${pids[$1]}"
}

# what, seconds, command...: until the command succeeds
wait_until() {
    local what=$1 deadline=$((SECONDS + $2))
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "waited in vain until $what"
        sleep 0.1
    done
}

ready() { curl -fsS -m 2 "http://127.0.0.1:$1/readyz"; }

# The coordinator sends downloads to all three edges.
all_up() {
    local shares
    shares=$(curl -fsS -m 2 -H "Authorization: Bearer $(cut -d: -f2 "$folder/admin.tokens")" \
        "http://127.0.0.1:$admin_port/admin/v1/edges" | grep -o '"share":0\.[0-9]*[1-9]' | wc -l)
    [ "$shares" -eq 3 ]
}

# The wanted port, or the next one that nobody listens on.
next_port=0
take_port() {
    local port=$1
    [ "$port" -gt "$next_port" ] || port=$((next_port + 1))
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
        [ $port -lt $(($1 + 90)) ] || fail "ports $1 to $port are all in use"
    done
    next_port=$port
}

# --- files and configuration ------------------------------------------------------------------------------------

echo "Sample files in $folder/files"
mkdir "$folder/files" "$folder/files/reports"
echo "Hello from Sluice." >"$folder/files/hello.txt"
head -c $((1024 * 1024 + 3)) /dev/urandom >"$folder/files/reports/2026.pdf"
head -c $((100 * 1024 * 1024)) /dev/urandom >"$folder/files/big.bin"

take_port 8080 && port=$next_port
take_port 8081 && admin_port=$next_port
edge_ports=() edge_admin_ports=()
for n in 1 2 3; do take_port $((9000 + n)) && edge_ports[n]=$next_port; done
for n in 1 2 3; do take_port $((9100 + n)) && edge_admin_ports[n]=$next_port; done

base=http://127.0.0.1:$port
cat >"$folder/coordinator.toml" <<END
id = "coordinator-1"
listen = "127.0.0.1:$port"
admin_listen = "127.0.0.1:$admin_port"
public_url = "$base"
admin_token_file = "admin.tokens"

[keys]
source = "file"
path = "keys.jwks.json"

[auth]
schemes = ["open"]          # no authentication: for a demo on loopback only

[registry]
source = "static"
END
for n in 1 2 3; do
    cat >>"$folder/coordinator.toml" <<END

[[registry.edges]]
id = "edge-$n"
url = "http://127.0.0.1:${edge_ports[n]}"
admin_url = "http://127.0.0.1:${edge_admin_ports[n]}"
zone = "a"
END
    cat >"$folder/edge-$n.toml" <<END
id = "edge-$n"
listen = "127.0.0.1:${edge_ports[n]}"
admin_listen = "127.0.0.1:${edge_admin_ports[n]}"
advertise_url = "http://127.0.0.1:${edge_ports[n]}"
root = "files"
zone = "a"
threads = 1
coordinator_urls = ["$base"]

[cache]
size = "256MiB"

[keys]
source = "file"
path = "keys.jwks.json"

[registry]
source = "static"
END
done

# --- the cluster ------------------------------------------------------------------------------------------------

# The coordinator first: it makes the key file that the edges read.
start coordinator sluice-coordinator
wait_until "the coordinator has made its keys" 20 test -s "$folder/keys.jwks.json"
for n in 1 2 3; do start "edge-$n" sluice-edge; done
for n in 1 2 3; do wait_until "edge-$n is ready" 20 ready "${edge_admin_ports[n]}"; done
wait_until "the coordinator sends downloads to all edges" 20 all_up
echo "A coordinator and three edges are up."

# --- downloads --------------------------------------------------------------------------------------------------

url_of() { echo "$base/download/$1?user_id=demo"; }
same() { [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]; }
edge_of() { # the edge that a file goes to now
    local location n
    location=$(curl -fsS -o /dev/null -w '%{redirect_url}' "$(url_of "$1")")
    for n in 1 2 3; do
        case $location in "http://127.0.0.1:${edge_ports[n]}/"*) echo "edge-$n" ;; esac
    done
}

for file in hello.txt reports/2026.pdf big.bin; do
    curl -fsSL -o "$folder/got" "$(url_of "$file")" || fail "curl could not fetch $file"
    same "$folder/files/$file" "$folder/got" || fail "$file arrived with other bytes"
    printf '  %-18s %9d bytes through %s, SHA-256 equal\n' "$file" "$(stat -c %s "$folder/got")" "$(edge_of "$file")"
done

victim=$(edge_of big.bin)
echo "Killing $victim in the middle of a download of big.bin, and resuming at the coordinator:"
echo "  until curl -fsSL -C - -o big.bin '$(url_of big.bin)'; do sleep 1; done"
rm -f "$folder/got"
curl -fsSL --limit-rate 50M -o "$folder/got" "$(url_of big.bin)" 2>/dev/null &
transfer=$!
wait_until "the download is under way" 20 \
    sh -c "[ \"\$(stat -c %s '$folder/got')\" -gt 10000000 ]"
kill -KILL "${pids[$victim]}"
unset "pids[$victim]"
if wait "$transfer"; then fail "the download ended before its edge was killed"; fi
echo "  broken after $(stat -c %s "$folder/got") bytes"
tries=1
until curl -fsSL -C - -o "$folder/got" "$(url_of big.bin)" 2>/dev/null; do
    [ $((tries += 1)) -le 20 ] || fail "big.bin could not be resumed"
    sleep 1
done
same "$folder/files/big.bin" "$folder/got" || fail "the resumed big.bin has other bytes"
echo "  resumed on $(edge_of big.bin) at try $tries, SHA-256 equal"

start "$victim" sluice-edge
for n in 1 2 3; do wait_until "edge-$n is ready" 20 ready "${edge_admin_ports[n]}"; done
wait_until "the coordinator sends downloads to $victim again" 20 all_up
passed=true
echo "$victim is started again. All checks passed."
if $once; then exit 0; fi

# --- for you to try ---------------------------------------------------------------------------------------------

cat <<END

Try it:
  curl -L -o big.bin '$(url_of big.bin)'
  curl '$base/api/request-download?file_id=hello.txt&user_id=you'

Measure it, in another terminal (the report is target/loadtest/report.html):
  make loadtest COORDINATOR=$base

Watch it in a browser:
  http://127.0.0.1:$admin_port/

Admin ports (/healthz, /readyz, /metrics):
  coordinator  http://127.0.0.1:$admin_port/readyz
               curl -H "Authorization: Bearer \$(cut -d: -f2 $folder/admin.tokens)" http://127.0.0.1:$admin_port/admin/v1/edges
END
for n in 1 2 3; do echo "  edge-$n       http://127.0.0.1:${edge_admin_ports[n]}/metrics"; done
echo "Files, configuration and logs: $folder (removed at the end)"
echo "Stop with Ctrl-C."
# A signal ends a wait at once; a sleep in the foreground would be waited for.
sleep infinity &
pids[sleep]=$!
wait "${pids[sleep]}"
