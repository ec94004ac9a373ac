#!/usr/bin/env bash
# Row 9: an hour of the demo stream with one player-like reader; resident memory of broadcaster
# and worker may grow by 1 MiB/h after the first 10 minutes. Prints a line a minute and a verdict.
#   MINUTES=60 BIN=target/release/broadcaster scripts/soak.sh
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${MINUTES:-60} bin=${BIN:-target/release/broadcaster} warm_up=${WARM_UP:-10}
data=$(mktemp -d)
pids=()
cleanup() { kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$data"; }
trap cleanup EXIT

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
http=$(free_port) admin=$(free_port) rtmp=$(free_port)
"$bin" serve --demo --data "$data" --log warn \
    --http "127.0.0.1:$http" --admin "127.0.0.1:$admin" --rtmp "127.0.0.1:$rtmp" >"$data/out" 2>"$data/err" &
pids+=($!)
server=$!
master="http://127.0.0.1:$http/live/demo/master.m3u8"
for _ in $(seq 60); do curl -fsS -o /dev/null "$master" 2>/dev/null && break; sleep 1; done
"$bin" check-hls "$master" --for "${minutes}m" >"$data/check" 2>&1 &
check=$!
pids+=($check)

rss_kib() { awk '/^Rss(Anon|Shmem):/ { s += $2 } END { print s + 0 }' "/proc/$1/status"; }
# What the window of the stream weighs follows the picture; it is shown to tell it from a leak.
media_kib() {
    curl -fsS "http://127.0.0.1:$admin/metrics" |
        awk '/^shoal_rendition_memory_bytes[{]/ { s += $2 } END { printf "%d", s / 1024 }'
}
echo "minute  broadcaster_kib  worker_kib  media_held_kib  load"
for minute in $(seq 0 "$minutes"); do
    worker=$(pgrep -P "$server" | head -n 1)
    line="$minute $(rss_kib "$server") $(rss_kib "$worker") $(media_kib) $(cut -d' ' -f1 /proc/loadavg)"
    # shellcheck disable=SC2086
    printf '%6d %16d %11d %15d %5s\n' $line
    echo "$line" >>"$data/table"
    [ "$minute" -eq "$minutes" ] || sleep 60
done
wait "$check" && echo "check-hls: silent" || { echo "check-hls: exit $?"; head -n 20 "$data/check"; }
# The slope of a straight line through the minutes after the warm-up, in KiB per hour.
awk -v from="$warm_up" '
    $1 >= from { n++; x += $1; xx += $1*$1; b += $2; xb += $1*$2; w += $3; xw += $1*$3 }
    function slope(y, xy) { return (n*xy - x*y) / (n*xx - x*x) * 60 }
    END {
        if (n < 3) { print "too short to tell"; exit 1 }
        s = slope(b, xb); t = slope(w, xw)
        printf "growth: broadcaster %+.0f KiB/h, worker %+.0f KiB/h (limit +1024 each)\n", s, t
        print (s <= 1024 && t <= 1024) ? "PASS" : "NOT MET"
        exit !(s <= 1024 && t <= 1024)
    }' "$data/table"
