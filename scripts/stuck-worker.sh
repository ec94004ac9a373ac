#!/usr/bin/env bash
# Row 4: four streams; the worker of one is stopped with SIGSTOP. It is detected, killed and replaced,
# and check-hls says nothing about the others. Then a worker that leaks (a switch for tests) ends at
# its memory limit and is replaced, again without a word about the others.
#   scripts/stuck-worker.sh target/release/broadcaster
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${1:-target/release/broadcaster}
. scripts/lib.sh
# replaced NAME PID SECONDS: waits until another worker than PID makes its media.
replaced() {
    for _ in $(seq $(($3 * 10))); do
        now=$(worker "$1")
        [ -n "$now" ] && [ "$now" != "$2" ] && return
        sleep 0.1
    done
    wrong "$1 has no new worker after $3 s"
}
watch_others() {
    checks=()
    for name in a b; do
        "$bin" check-hls "http://127.0.0.1:$http/live/$name/master.m3u8" --for "$1s" >"$data/check.$name" 2>&1 &
        checks+=($!)
        others+=($!)
    done
}
others_silent() {
    for i in 0 1; do
        wait "${checks[$i]}" || wrong "check-hls: $(head -n 3 "$data"/check.*)"
    done
}
# The variable reaches workers with our environment; only streams of that name leak.
export SHOAL_TEST_LEAK_MB_PER_S="leaky=60"
clip "$data/clip.mp4" 640x360 800
start_server --worker-memory-limit-mb 400 --log info
for name in a stuck; do add $name test '["240p"]' >/dev/null; done
publish "$data/clip.mp4" "$(add b rtmp '"passthrough"')"
for name in a b stuck; do on_air $name; done
sleep 3
watch_others 30
sleep 3
pid=$(worker stuck) begun=$SECONDS
say "worker $pid of stuck gets SIGSTOP"
kill -STOP "$pid"
replaced stuck "$pid" 20
say "replaced by worker $now after $((SECONDS - begun)) s"
for _ in $(seq 100); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
[ ! -e "/proc/$pid" ] || wrong "the stopped worker is still there"
say "the stopped worker is gone after $((SECONDS - begun)) s; force kills: $(metric shoal_force_kills_total)"
grep -q 'Stream stuck did not respond to SIGTERM, force killing' "$data/log" || wrong "the log does not say that it was killed"
[ "$(metric shoal_force_kills_total)" = 1 ] || wrong "not one force kill"
others_silent

watch_others 25
begun=$SECONDS
add leaky test '["240p"]' >/dev/null
on_air leaky
pid=$(worker leaky)
replaced leaky "$pid" 30
say "the leaking worker $pid was ended at its limit of 400 MB and replaced after $((SECONDS - begun)) s: $(sed 's/\x1b\[[0-9;]*m//g' "$data/log" | grep -o 'the worker used [0-9]* MB' | head -n 1)"
[ "$(metric shoal_memory_kills_total)" -ge 1 ] || wrong "not counted"
others_silent
[ "$broken" -eq 0 ] && echo PASS || { sed 's/\x1b\[[0-9;]*m//g' "$data/log" | grep -E 'ERROR|WARN' | tail -n 20; echo "NOT MET"; exit 1; }
