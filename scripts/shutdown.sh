#!/usr/bin/env bash
# Row 5: five live streams (three test pictures, two from ffmpeg by RTMP) with viewers in blocked
# reloads and one worker stopped by SIGSTOP; SIGTERM, then the same again with SIGINT. The broadcaster
# ends with status 0 within 10 s, leaves no process, listener or temporary file, and after a start
# every stream goes on with its numbers.
#   scripts/shutdown.sh target/release/broadcaster
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-target/release/broadcaster}
. scripts/lib.sh
streams=(t1 t2 t3 r1 r2)
playlist() { case $1 in r*) echo source ;; *) echo 240p ;; esac; }
# The number of the newest segment that has begun.
newest() {
    curl -fsS "http://127.0.0.1:$admin/live/$1/$(playlist "$1")/media.m3u8" |
        awk -F: '/^#EXT-X-MEDIA-SEQUENCE/ { n = $2 } /^#EXTINF/ { s++ } END { print n + s }'
}

clip "$data/clip.mp4" 640x360 800
start_server
declare -A key
for name in t1 t2 t3; do add $name test '["240p"]' >/dev/null; done
for name in r1 r2; do key[$name]=$(add $name rtmp '"passthrough"'); done

for signal in TERM INT; do
    encoders=()
    for name in r1 r2; do publish "$data/clip.mp4" "${key[$name]}"; encoders+=($!); done
    for name in "${streams[@]}"; do on_air $name; done
    python3 - "http://127.0.0.1:$http/live" >"$data/viewers.$signal" 2>&1 <<'PY' &
import collections, http.client, re, sys, threading, urllib.parse
base = urllib.parse.urlparse(sys.argv[1])
seen = collections.Counter()
def view(stream, rendition):
    path = f"{base.path}/{stream}/{rendition}/media.m3u8"
    link = http.client.HTTPConnection(base.netloc, timeout=30)
    query = ""
    while True:
        try:
            link.request("GET", path + query)
            answer = link.getresponse()
            text = answer.read().decode()
        except ConnectionRefusedError:
            return
        except (OSError, http.client.HTTPException) as error:
            seen["cut: " + type(error).__name__] += 1
            return
        seen[answer.status] += 1
        first = re.search(r"#EXT-X-MEDIA-SEQUENCE:(\d+)", text)
        if not first:
            return
        query = f"?_HLS_msn={int(first[1]) + text.count('#EXTINF') + 1}"
viewers = [threading.Thread(target=view, args=v) for v in
           [(f"t{i}", "240p") for i in (1, 2, 3)] + [(f"r{i}", "source") for i in (1, 2)] for _ in range(4)]
[v.start() for v in viewers]
[v.join() for v in viewers]
print(dict(seen))
PY
    viewers=$!
    sleep 3
    declare -A before workers
    for name in "${streams[@]}"; do before[$name]=$(newest $name) workers[$name]=$(worker $name); done
    kill -STOP "${workers[t2]}"
    say "SIG$signal with the worker of t2 stopped (${#streams[@]} streams, 20 viewers)"
    begun=$(date +%s%N)
    kill "-$signal" "$server"
    status=0
    wait "$server" || status=$?
    took_ms=$((($(date +%s%N) - begun) / 1000000))
    say "ended after $took_ms ms with status $status"
    [ "$status" -eq 0 ] || wrong "exit status $status"
    [ "$took_ms" -le 10000 ] || wrong "took longer than 10 s"
    wait "$viewers" || true
    say "answers to viewers: $(cat "$data/viewers.$signal")"
    sleep 0.5
    for name in "${streams[@]}"; do
        [ ! -e "/proc/${workers[$name]}" ] || wrong "the worker of $name is left"
    done
    for port in $http $admin $rtmp; do
        if curl -sS -o /dev/null --max-time 1 "http://127.0.0.1:$port/" 2>/dev/null; then wrong "port $port still answers"; fi
    done
    left=$(find "$data/shoal" \( -name '*.new' -o -name '*.tmp' -o -type s \) | wc -l)
    [ "$left" -eq 0 ] || wrong "$left temporary files or sockets are left"
    for encoder in "${encoders[@]}"; do kill "$encoder" 2>/dev/null || true; done
    begun=$(date +%s%N)
    start_server
    for name in r1 r2; do publish "$data/clip.mp4" "${key[$name]}"; encoders+=($!); done
    for name in "${streams[@]}"; do
        for _ in $(seq 200); do
            now=$(newest $name 2>/dev/null || echo 0)
            [ "${now:-0}" -gt "${before[$name]}" ] && break
            sleep 0.1
        done
        [ "${now:-0}" -gt "${before[$name]}" ] || wrong "$name does not go on: ${before[$name]} -> ${now:-0}"
    done
    say "all streams go on with their numbers $((($(date +%s%N) - begun) / 1000000)) ms after the start"
    for encoder in "${encoders[@]}"; do kill "$encoder" 2>/dev/null || true; done
    sleep 1
done
[ "$broken" -eq 0 ] && echo PASS || { sed 's/\x1b\[[0-9;]*m//g' "$data/log" | grep -E 'ERROR|WARN' | tail -n 20; echo "NOT MET"; exit 1; }
