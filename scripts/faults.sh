#!/usr/bin/env bash
# Row 9: a disk that becomes full, a limit of memory, half of the CPU: what is documented happens, and
# passes. Each case can be named alone.
#   sudo scripts/faults.sh target/release/broadcaster [disk] [memory] [cpu]
# Needs root for a small file system and a group. Where the kernel has cgroup v2 with the controllers,
# the limits are real. Elsewhere the broadcaster gets a mount namespace of its own in which
# /sys/fs/cgroup is a folder that tells it the limits (with figures of its own processes, brought up to
# date each half second): memory is then told and not enforced, CPU is enforced by cgroup v1 where there is
# that, and else by stopping all of its processes half of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(realpath "${1:-target/release/broadcaster}")
shift || true
cases=${*:-disk memory cpu}
if [ "$(id -u)" -ne 0 ] || ! unshare --mount true 2>/dev/null; then
    echo "SKIPPED: this needs root and mount namespaces"; exit 77
fi
. scripts/lib.sh
helpers=() group="" told="" disk=""
end_case() {
    for pid in "${helpers[@]}"; do kill "$pid" 2>/dev/null || true; done
    helpers=()
    if [ -n "$server" ]; then
        tree | while read -r pid; do kill -CONT "$pid" 2>/dev/null || true; done
        kill "$server" 2>/dev/null || true
        wait "$server" || wrong "the broadcaster ended with status $?"
        server=""
    fi
    if [ -n "$group" ]; then rmdir "$group" 2>/dev/null || true; group=""; fi
    if [ -n "$disk" ]; then umount "$disk" 2>/dev/null || true; disk=""; fi
    rm -rf "$data/shoal" "$told"; told=""
}
trap 'end_case; cleanup' EXIT

# The broadcaster and its workers.
tree() { echo "$server"; pgrep -P "$server" || true; }
resources() { api GET /resources; }
# field EXPRESSION: of what /resources says, as `r`.
field() { resources | python3 -c "import json,sys; r=json.load(sys.stdin); print($1)"; }
paused() { field '" ".join(q["id"] for s in r["streams"] for q in s["renditions"] if q["state"] == "suspended")'; }
reasons() { field '"; ".join(sorted({c["reason"] for c in r["changes"]["recent"] if not c["on"]}))'; }
# within SECONDS WHAT COMMAND...: waits until the command succeeds; gives after how many seconds in $took.
within() {
    local limit=$1 what=$2 begun=$SECONDS; shift 2
    while ! "$@"; do
        if [ $((SECONDS - begun)) -ge "$limit" ]; then wrong "$what: not within $limit s"; took=-1; return; fi
        sleep 0.5
    done
    took=$((SECONDS - begun))
}
any_paused() { [ -n "$(paused)" ]; }
none_paused() { [ -z "$(paused)" ]; }
is_ready() { curl -fsS "http://127.0.0.1:$admin/readyz" | grep -q "\"status\":\"$1\""; }
# newest NAME RENDITION: the number of its newest segment.
newest() { api GET "/streams/$1" | python3 -c "import json,sys; print(next((q['msn'] or 0 for q in json.load(sys.stdin)['renditions'] if q['id'] == '$2'), 0))"; }
# goes_on NAME RENDITION: whether it makes a segment of 2 s in 5 s.
goes_on() {
    local before; before=$(newest "$1" "$2")
    sleep 5
    [ "$(newest "$1" "$2")" -gt "$before" ] || wrong "$2 of $1 stands still at $before"
}
same_process() { [ -e "/proc/$server" ] && [ "$(field 'r["broadcaster"]["pid"]')" = "$server" ] || wrong "the broadcaster is gone"; }

disk_case() {
    say "disk: the data folder on a file system of 24 MB"
    mkdir -p "$data/shoal"; disk="$data/shoal"
    mount -t tmpfs -o size=24m shoal-faults "$disk"
    start_server
    add show test '["480p","240p"]' >/dev/null
    on_air show
    "$bin" check-hls "http://127.0.0.1:$http/live/show/master.m3u8" --for 40s >"$data/check" 2>&1 &
    local check=$!; helpers+=("$check")
    sleep 4
    is_ready ok || wrong "not ready before"
    # What is left, to the last byte.
    dd if=/dev/zero of="$disk/filler" bs=64k 2>/dev/null || true
    within 15 "/readyz says degraded" is_ready degraded
    say "disk: full; degraded after $took s, room left: $(df --output=avail -k "$disk" | tail -n 1) kB"
    goes_on show 480p
    rm "$disk/filler"
    within 40 "/readyz says ok again" is_ready ok
    say "disk: room again; ok after $took s"
    goes_on show 480p
    wait "$check" || wrong "check-hls: $(head -n 5 "$data/check")"
    same_process
    end_case
}

# Limits: real ones, or told ones.
v2=/sys/fs/cgroup
has_v2() { [ -w "$v2/cgroup.subtree_control" ] && grep -qw "$1" "$v2/cgroup.subtree_control"; }
v1_cpu=/sys/fs/cgroup/cpu
has_v1_cpu() { [ -w "$v1_cpu/cgroup.procs" ] && [ -e "$v1_cpu/cpu.cfs_quota_us" ]; }
# start_limited CONTROLLER FLAGS: starts the broadcaster where a limit can be set.
start_limited() {
    local controller=$1; shift
    if has_v2 "$controller"; then
        group="$v2/shoal-faults-$$"; mkdir "$group"
        start_server "$@"
        tree | while read -r pid; do echo "$pid" >"$group/cgroup.procs"; done
        return
    fi
    # A folder that says what the group would say, seen by the broadcaster alone.
    told=$(mktemp -d)
    local own; own=$(sed -n 's/^0:://p' /proc/self/cgroup)
    mkdir -p "$told/$own"
    local real=$bin
    cat >"$data/limited" <<SH
#!/bin/sh
mount --bind '$told' /sys/fs/cgroup && exec '$real' "\$@"
SH
    chmod +x "$data/limited"
    cat >"$data/in-namespace" <<SH
#!/bin/sh
exec unshare --mount '$data/limited' "\$@"
SH
    chmod +x "$data/in-namespace"
    bin="$data/in-namespace"; start_server "$@"; bin=$real
    (while sleep 0.5; do
        echo "$(($(used_mb) << 20))" >"$told/new"
        mv "$told/new" "$told/$own/memory.current"
        cpu_seconds | awk '{ printf "usage_usec %d\nnr_throttled 0\n", $1 * 1000000 }' >"$told/new"
        mv "$told/new" "$told/$own/cpu.stat"
    done) & helpers+=($!)
}

used_mb() { tree | while read -r pid; do ps -o rss= -p "$pid" || true; done | awk '{ s += $1 } END { print int(s / 1024) }'; }
cpu_seconds() { tree | while read -r pid; do awk '{ print $14 + $15 }' "/proc/$pid/stat" 2>/dev/null || true; done | awk '{ s += $1 } END { print s / 100 }'; }
# set_limit FILE TEXT
set_limit() {
    if [ -n "$told" ]; then echo "$2" >"$told/$(sed -n 's/^0:://p' /proc/self/cgroup)/$1"; else echo "$2" >"$group/$1"; fi
}

memory_case() {
    start_limited memory
    say "memory: $([ -n "$group" ] && echo "limited by the kernel" || echo "limit told, not enforced (no cgroup v2 here)")"
    add show test '["480p","360p","240p"]' >/dev/null
    on_air show
    local of; of=$(worker show)
    sleep 12
    local used; used=$(used_mb)
    # So that 95 % of it are in use now.
    local limit=$((used * 100 / 95))
    say "memory: $used MB in use, limited to $limit MB"
    set_limit memory.max $((limit << 20))
    within 20 "a quality is paused" any_paused
    say "memory: paused after $took s: $(paused); $(reasons)"
    reasons | grep -q "of [0-9]* MB of memory in use" || wrong "the reason does not speak of memory: $(reasons)"
    curl -fsS -o /dev/null "http://127.0.0.1:$admin/live/show/master.m3u8" || wrong "nothing is listed"
    local left; left=$(field 'next(q["id"] for s in r["streams"] for q in s["renditions"] if q["state"] == "live")')
    goes_on show "$left"
    [ "$(cat "/proc/$of/oom_score_adj")" -gt "$(cat "/proc/$server/oom_score_adj")" ] || wrong "the worker does not go first"
    set_limit memory.max max
    within 60 "all come back" none_paused
    say "memory: back after $took s; the kernel would end the worker first (score $(cat "/proc/$of/oom_score_adj"), broadcaster $(cat "/proc/$server/oom_score_adj"))"
    same_process
    end_case
}

# throttle CORES: all of the broadcaster's processes together.
throttle() {
    local quota; quota=$(python3 -c "print(int($1 * 100000))")
    set_limit cpu.max "$quota 100000"
    if [ "$how" = v1 ]; then
        group="$v1_cpu/shoal-faults-$$"; mkdir -p "$group"
        echo 100000 >"$group/cpu.cfs_period_us"; echo "$quota" >"$group/cpu.cfs_quota_us"
        tree | while read -r pid; do echo "$pid" >"$group/cgroup.procs"; done
    elif [ "$how" = stop ]; then
        # Half of each fifth of a second.
        (while :; do
            tree | xargs kill -STOP 2>/dev/null || true; sleep 0.1
            tree | xargs kill -CONT 2>/dev/null || true; sleep 0.1
        done) & duty=$!; helpers+=("$duty")
    fi
}
unthrottle() {
    set_limit cpu.max "max 100000"
    if [ "$how" = v1 ]; then echo -1 >"$group/cpu.cfs_quota_us"
    elif [ "$how" = stop ]; then kill "$duty"; tree | xargs kill -CONT 2>/dev/null || true; fi
}
speed() { field 'r["streams"][0]["speed"]'; }
calm() { none_paused && real_time; }
real_time() { [ "$(python3 -c "print(int(float('$(speed)' or 0) >= 0.95))")" = 1 ]; }

cpu_case() {
    if has_v2 cpu; then how=v2; elif has_v1_cpu; then how=v1; else how=stop; fi
    start_limited cpu
    say "cpu: held back by $(case $how in v2) echo "cgroup v2" ;; v1) echo "cgroup v1, which v2 files are made up for" ;; *) echo "stopping everything half of the time" ;; esac)"
    add show test "$ladder" >/dev/null
    on_air show
    sleep 8
    within 90 "everything is made before" calm
    local before after need
    before=$(cpu_seconds); sleep 8; after=$(cpu_seconds)
    need=$(python3 -c "print(round(($after - $before) / 8, 2))")
    say "cpu: $need cores in use at speed $(speed); paused: $(paused)"
    throttle "$(python3 -c "print($need / 2)")"
    within 15 "a quality is paused" any_paused
    say "cpu: halved; paused after $took s: $(paused); $(reasons)"
    within 15 "the rest in real time" real_time
    sleep 5
    say "cpu: speed $(speed), paused: $(paused)"
    real_time || wrong "what is left does not keep up: $(speed)"
    local left; left=$(field 'next(q["id"] for s in r["streams"] for q in s["renditions"] if q["state"] == "live")')
    goes_on show "$left"
    unthrottle
    within 60 "all come back" none_paused
    say "cpu: free on this machine: $(field 'round(r["host"]["cores"] - r["host"]["cpu_busy"], 2)') of $(field 'r["host"]["cores"]') cores; needed: $(field '", ".join(q["id"] + " " + str(round(q["cores"] or 0, 2)) for q in r["streams"][0]["renditions"])')"
    say "cpu: released; all back after $took s, $(field 'r["changes"]["total"]') changes in all"
    same_process
    end_case
}
ladder=${LADDER:-'["720p","480p","360p","240p"]'}
for case in $cases; do "${case}_case"; done
[ "$broken" -eq 0 ] && echo PASS || { sed 's/\x1b\[[0-9;]*m//g' "$data/log" | grep -E 'ERROR|WARN' | tail -n 20; echo "NOT MET"; exit 1; }
