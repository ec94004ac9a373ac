#!/usr/bin/env bash
# Row 6: CPU of broadcaster and worker together while ffmpeg pushes a pre-encoded 1080p30 H.264
# 6 Mbit/s + AAC file and one player-like reader follows it; passthrough only. Limit: 10 % of a core.
#   SECONDS_MEASURED=60 BIN=target/release/broadcaster scripts/bench-relay.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-target/release/broadcaster} length=${SECONDS_MEASURED:-60}
data=$(mktemp -d)
pids=()
cleanup() { kill "${pids[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$data"; }
trap cleanup EXIT
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
http=$(free_port) admin=$(free_port) rtmp=$(free_port)

ffmpeg -nostdin -loglevel error -y -f lavfi -i testsrc2=size=1920x1080:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
    -t 20 -c:v libx264 -preset ultrafast -b:v 6M -maxrate 6M -minrate 6M -bufsize 3M -nal-hrd cbr -g 60 -keyint_min 60 \
    -sc_threshold 0 -pix_fmt yuv420p -c:a aac -b:a 128k "$data/clip.mp4"
"$bin" serve --data "$data/shoal" --log warn --http "127.0.0.1:$http" --admin "127.0.0.1:$admin" --rtmp "127.0.0.1:$rtmp" 2>"$data/log" &
pids+=($!)
server=$!
for _ in $(seq 100); do curl -fsS -o /dev/null "http://127.0.0.1:$http/healthz" 2>/dev/null && break; sleep 0.1; done
key=$(curl -fsS -H "Authorization: Bearer $(cat "$data/shoal/admin-token")" -H 'Content-Type: application/json' \
    -d '{"name":"show","source":"rtmp","ladder":"passthrough"}' "http://127.0.0.1:$admin/api/v1/streams" |
    python3 -c 'import json,sys; print(json.load(sys.stdin)["stream_key"])')
ffmpeg -nostdin -loglevel error -re -stream_loop -1 -i "$data/clip.mp4" -c copy -f flv "rtmp://127.0.0.1:$rtmp/live/$key" &
pids+=($!)
master="http://127.0.0.1:$http/live/show/master.m3u8"
for _ in $(seq 100); do curl -fsS -o /dev/null "$master" 2>/dev/null && break; sleep 0.3; done
ffmpeg -nostdin -loglevel fatal -i "$master" -c copy -f null - &
pids+=($!)
sleep 5
worker=$(pgrep -P "$server" -f ' worker$' | head -n 1)
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
before_server=$(ticks "$server") before_worker=$(ticks "$worker")
sleep "$length"
after_server=$(ticks "$server") after_worker=$(ticks "$worker")
awk -v s=$((after_server - before_server)) -v w=$((after_worker - before_worker)) -v t="$length" -v hz="$(getconf CLK_TCK)" 'BEGIN {
    server = 100 * s / hz / t; worker = 100 * w / hz / t
    printf "broadcaster %.1f %%, worker %.1f %%, together %.1f %% of a core (limit 10 %%)\n", server, worker, server + worker
    print (server + worker < 10) ? "PASS" : "NOT MET"
    exit !(server + worker < 10)
}'
