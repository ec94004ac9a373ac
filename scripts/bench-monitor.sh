#!/usr/bin/env bash
# Row 10: what watching costs with 20 streams on the air (19 that pass an encoder's stream through, and
# one test picture). Limit: 0.5 % of one core, from the monitor's own count of its CPU time.
#   SECONDS_MEASURED=60 STREAMS=20 scripts/bench-monitor.sh target/release/broadcaster
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-target/release/broadcaster} length=${SECONDS_MEASURED:-60} streams=${STREAMS:-20}
. scripts/lib.sh
clip "$data/clip.mp4" 640x360 500
start_server --log warn
add s1 test '["240p"]' >/dev/null
for i in $(seq 2 "$streams"); do publish "$data/clip.mp4" "$(add "s$i" rtmp '"passthrough"')"; done
for i in $(seq "$streams"); do on_air "s$i"; done
sleep 5
before=$(metric shoal_monitor_seconds_total)
begun=$(date +%s%N)
sleep "$length"
awk -v b="$before" -v a="$(metric shoal_monitor_seconds_total)" -v ns=$(($(date +%s%N) - begun)) -v n="$streams" 'BEGIN {
    percent = (a - b) / (ns / 1e9) * 100
    printf "watching %d streams: %.3f %% of a core (limit 0.5 %%)\n", n, percent
    print (percent <= 0.5) ? "PASS" : "NOT MET"
    exit !(percent <= 0.5)
}'
