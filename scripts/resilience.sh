#!/usr/bin/env bash
# Row 4: ten minutes of a 3-quality RTMP stream under check-hls, during which the encoder is killed
# for 20 s and again for 1 s, the worker is killed with SIGKILL, and the broadcaster is restarted.
# Passes when check-hls exits 0 (it prints nothing but OUTAGE lines) and numbering never goes back.
#   MINUTES=10 BIN=target/debug/broadcaster scripts/resilience.sh
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=${MINUTES:-10} bin=${BIN:-target/debug/broadcaster}
data=$(mktemp -d)
server="" encoder="" check="" numbers=""
cleanup() {
    for pid in $encoder $check $numbers $server; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$data"
}
trap cleanup EXIT

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
http=$(free_port) admin=$(free_port) rtmp=$(free_port)
base="http://127.0.0.1:$http/live/show"
say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }

start_server() {
    "$bin" serve --data "$data/shoal" --http "127.0.0.1:$http" --admin "127.0.0.1:$admin" \
        --rtmp "127.0.0.1:$rtmp" >>"$data/log" 2>&1 &
    server=$!
    for _ in $(seq 100); do curl -fsS -o /dev/null "http://127.0.0.1:$http/healthz" 2>/dev/null && return; sleep 0.1; done
    say "the broadcaster does not start"; tail -n 5 "$data/log"; exit 1
}
start_encoder() {
    ffmpeg -nostdin -loglevel error -re -stream_loop -1 -i "$data/clip.mp4" -c copy -f flv \
        "rtmp://127.0.0.1:$rtmp/live/$key" >>"$data/encoder.log" 2>&1 &
    encoder=$!
}
kill_encoder() { kill -9 "$encoder" 2>/dev/null || true; wait "$encoder" 2>/dev/null || true; }
worker() { pgrep -P "$server" -f ' worker$' | head -n 1; }

ffmpeg -nostdin -loglevel error -y -f lavfi -i testsrc2=size=854x480:rate=30 -f lavfi -i sine=frequency=440:sample_rate=48000 \
    -t 60 -c:v libx264 -preset veryfast -b:v 2M -maxrate 2M -bufsize 2M -g 60 -keyint_min 60 -sc_threshold 0 -bf 2 \
    -pix_fmt yuv420p -c:a aac -b:a 128k "$data/clip.mp4"
start_server
made=$(curl -fsS -H "Authorization: Bearer $(cat "$data/shoal/admin-token")" -H 'Content-Type: application/json' \
    -d '{"name":"show","source":"rtmp","ladder":["source","360p","240p"]}' "http://127.0.0.1:$admin/api/v1/streams")
key=$(printf '%s' "$made" | python3 -c 'import json,sys; print(json.load(sys.stdin)["stream_key"])')
start_encoder
for _ in $(seq 200); do curl -fsS -o /dev/null "$base/master.m3u8" 2>/dev/null && break; sleep 0.2; done
say "on the air: $(curl -fsS "$base/master.m3u8" | grep -c '^[^#]') renditions"

"$bin" check-hls "$base/master.m3u8" --for "${minutes}m" >"$data/check" 2>&1 &
check=$!
# An independent watch over the numbers of every rendition.
python3 - "$base" "$((minutes * 60))" >"$data/numbers" 2>&1 <<'PY' &
import re, sys, time, urllib.request
base, seconds = sys.argv[1], int(sys.argv[2])
best, reads, end = {}, 0, time.monotonic() + seconds
while time.monotonic() < end:
    for rendition in ("source", "360p", "240p", "audio"):
        try:
            text = urllib.request.urlopen(f"{base}/{rendition}/media.m3u8", timeout=5).read().decode()
        except OSError:
            continue
        reads += 1
        number = lambda tag: int(re.search(rf"#EXT-X-{tag}:(\d+)", text)[1])
        now = (number("MEDIA-SEQUENCE"), number("DISCONTINUITY-SEQUENCE"))
        was = best.get(rendition, (0, 0))
        if now[0] < was[0] or now[1] < was[1]:
            print(f"{rendition}: {was} -> {now}")
            sys.exit(1)
        best[rendition] = now
    time.sleep(0.5)
print(f"{reads} playlists read, last (media, discontinuity) sequences: {best}")
PY
numbers=$!

step=$((minutes * 60 / 6))
sleep "$step"; say "the encoder is killed for 20 s"; kill_encoder; sleep 20; start_encoder
sleep "$step"; say "the encoder is killed for 1 s"; kill_encoder; sleep 1; start_encoder
sleep "$step"; say "the worker is killed with SIGKILL"; kill -9 "$(worker)"
sleep "$step"; say "the broadcaster is restarted"; kill -TERM "$server"; wait "$server" || true; start_server
kill_encoder; start_encoder
say "the broadcaster is back"

status=0
wait "$check" || status=$?
say "check-hls exit $status:"; cat "$data/check"
wait "$numbers" && say "numbers: $(cat "$data/numbers")" || { status=1; say "numbers went back: $(cat "$data/numbers")"; }
grep -E 'ERROR|WARN' "$data/log" | sed 's/\x1b\[[0-9;]*m//g' | sort | uniq -c | sort -rn | head -n 12 || true
[ "$status" -eq 0 ] && echo PASS || { echo "NOT MET"; exit 1; }
