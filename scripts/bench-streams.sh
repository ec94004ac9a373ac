#!/usr/bin/env bash
# Row 8: 1, 5, 10 and 20 live streams that pass through what ffmpeg pushes by RTMP, one encoder each:
# CPU and memory of the broadcaster and its workers, and whether every stream keeps up with real
# time (media made per second of clock, and the lag that the API tells).
#   SECONDS_MEASURED=30 STEPS="1 5 10 20" KBITS=2000 scripts/bench-streams.sh target/release/broadcaster
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-target/release/broadcaster} length=${SECONDS_MEASURED:-30} steps=${STEPS:-1 5 10 20} kbits=${KBITS:-2000}
. scripts/lib.sh
clip "$data/clip.mp4" 1280x720 "$kbits"
start_server --log warn
made=0 broken=0
declare -A workers
ticks() { cat "/proc/$1/stat" 2>/dev/null | sed 's/.*) //' | awk '{ print $12 + $13 }'; }
rss_kib() { awk '/^Rss(Anon|Shmem):/ { s += $2 } END { print s + 0 }' "/proc/$1/status"; }
sum() { local total=0 n; for pid in "${workers[@]}"; do n=$($1 "$pid"); total=$((total + ${n:-0})); done; echo $total; }
echo "streams  broadcaster_cpu_%  workers_cpu_%  broadcaster_mib  workers_mib  slowest_realtime  largest_lag_ms"
for step in $steps; do
    while [ "$made" -lt "$step" ]; do
        made=$((made + 1))
        publish "$data/clip.mp4" "$(add "s$made" rtmp '"passthrough"')"
    done
    for i in $(seq "$made"); do on_air "s$i"; done
    sleep 5
    for i in $(seq "$made"); do workers[$i]=$(worker "s$i"); done
    before_server=$(ticks "$server") before_workers=$(sum ticks) begun=$(date +%s%N)
    # How much media each playlist gains while the clock runs.
    pace=$(python3 - "http://127.0.0.1:$admin/live" "$made" "$length" <<'PY'
import re, sys, time, urllib.request
base, streams, length = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
def edge(i):
    text = urllib.request.urlopen(f"{base}/s{i}/source/media.m3u8", timeout=10).read().decode()
    first = int(re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)[1])
    whole = [float(d) for d in re.findall(r"#EXTINF:([\d.]+)", text)]
    parts = sum(float(d) for d in re.findall(r"#EXT-X-PART:DURATION=([\d.]+)", text.rsplit("#EXTINF", 1)[-1]))
    return time.monotonic(), first, whole, parts
before = {i: edge(i) for i in range(1, streams + 1)}
time.sleep(length)
slowest = 9.0
for i, (t0, first0, whole0, parts0) in before.items():
    t1, first1, whole1, parts1 = edge(i)
    mean = sum(whole1) / max(len(whole1), 1)
    made = (first1 + len(whole1) - first0 - len(whole0)) * mean + parts1 - parts0
    slowest = min(slowest, made / (t1 - t0))
print(f"{slowest:.3f}")
PY
)
    took_ns=$(($(date +%s%N) - begun))
    lag=$(api GET /resources | python3 -c 'import json,sys; print(max((r["lag_ms"] or 0 for s in json.load(sys.stdin)["streams"] for r in s["renditions"]), default=0))')
    awk -v n="$step" -v s=$(($(ticks "$server") - before_server)) -v w=$(($(sum ticks) - before_workers)) -v ns="$took_ns" \
        -v hz="$(getconf CLK_TCK)" -v sm="$(rss_kib "$server")" -v wm="$(sum rss_kib)" -v p="$pace" -v l="$lag" \
        'BEGIN { t = ns / 1e9 * hz / 100; printf "%7d %18.1f %14.1f %16.1f %12.1f %17s %15s\n", n, s / t, w / t, sm / 1024, wm / 1024, p, l }'
    # A segment of two seconds may or may not have ended when the clock was read.
    awk -v p="$pace" -v t="$length" 'BEGIN { exit !(p >= 1 - 2.5 / t) }' || { broken=1; say "BROKEN: not at real time"; }
done
[ "$broken" -eq 0 ] && echo PASS || { echo "NOT MET"; exit 1; }
