# What scripts that drive a broadcaster share. Source it after `set -euo pipefail`, with $bin set.
# Everything lies in $data and ends with the script.
data=$(mktemp -d)
server="" others=()
cleanup() {
    # A stopped process takes no other signal.
    for pid in "${others[@]}" $server; do kill -CONT "$pid" 2>/dev/null || true; kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$data"
}
trap cleanup EXIT

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
http=$(free_port) admin=$(free_port) rtmp=$(free_port)
say() { printf '%4ds  %s\n' "$SECONDS" "$*"; }
# wrong WORDS: something is not as it should be; the script ends with status $broken.
broken=0
wrong() { broken=1; say "BROKEN: $*"; }

# start_server [FLAGS]: starts $bin in $data/shoal and waits until it answers.
start_server() {
    "$bin" serve --data "$data/shoal" --http "127.0.0.1:$http" --admin "127.0.0.1:$admin" \
        --rtmp "127.0.0.1:$rtmp" --max-concurrent-streams-per-user 100 --max-concurrent-streams-global 100 \
        --admission false "$@" >>"$data/log" 2>&1 &
    server=$!
    for _ in $(seq 200); do curl -fsS -o /dev/null "http://127.0.0.1:$admin/healthz" 2>/dev/null && return; sleep 0.1; done
    say "the broadcaster does not start"; tail -n 5 "$data/log"; exit 1
}
# api METHOD PATH [JSON]
api() {
    curl -sS -X "$1" -H "Authorization: Bearer $(cat "$data/shoal/admin-token")" -H 'Content-Type: application/json' \
        ${3:+-d "$3"} "http://127.0.0.1:$admin/api/v1$2"
}
# add NAME SOURCE LADDER: makes a stream and prints its key.
add() {
    api POST /streams "{\"name\":\"$1\",\"source\":\"$2\",\"ladder\":$3}" |
        python3 -c 'import json,sys; print(json.load(sys.stdin)["stream_key"])'
}
# worker NAME: the process id of its worker.
worker() { api GET "/streams/$1" | python3 -c 'import json,sys; w=json.load(sys.stdin)["worker"]; print(w["pid"] if w else "")'; }
metric() { curl -fsS "http://127.0.0.1:$admin/metrics" | awk -v name="$1" '$1 == name { print $2 }'; }
# on_air NAME: waits until it can be played.
on_air() {
    for _ in $(seq 300); do curl -fsS -o /dev/null "http://127.0.0.1:$admin/live/$1/master.m3u8" 2>/dev/null && return; sleep 0.1; done
    say "$1 is not on the air"; tail -n 5 "$data/log"; exit 1
}
# clip FILE SIZE KBITS: twenty seconds of H.264 and AAC with a key frame every 2 s.
clip() {
    ffmpeg -nostdin -loglevel error -y -f lavfi -i "testsrc2=size=$2:rate=30" -f lavfi -i sine=frequency=440:sample_rate=48000 \
        -t 20 -c:v libx264 -preset ultrafast -b:v "$3k" -maxrate "$3k" -bufsize "$3k" -g 60 -keyint_min 60 \
        -sc_threshold 0 -pix_fmt yuv420p -c:a aac -b:a 96k "$1"
}
# publish FILE KEY: sends it again and again in real time.
publish() {
    ffmpeg -nostdin -loglevel error -re -stream_loop -1 -i "$1" -c copy -f flv "rtmp://127.0.0.1:$rtmp/live/$2" >>"$data/encoders.log" 2>&1 &
    others+=($!)
}
