#!/usr/bin/env bash
# Row 5: ffprobe and GStreamer's own HLS client play every rendition of a live stream, and the first
# presentation time of each segment is equal across renditions within one frame.
#   BIN=target/debug/broadcaster scripts/players.sh
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-target/debug/broadcaster}
data=$(mktemp -d)
server=""
cleanup() { [ -z "$server" ] || kill "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$data"; }
trap cleanup EXIT
free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
http=$(free_port)
"$bin" serve --demo --data "$data/shoal" --log warn --http "127.0.0.1:$http" --admin "127.0.0.1:$(free_port)" --rtmp "127.0.0.1:$(free_port)" >/dev/null 2>&1 &
server=$!
base="http://127.0.0.1:$http/live/demo"
for _ in $(seq 100); do curl -fsS -o /dev/null "$base/master.m3u8" 2>/dev/null && break; sleep 0.3; done
sleep 8
status=0
for rendition in 720p 480p 360p audio; do
    url="$base/$rendition/media.m3u8"
    # ffmpeg decodes 5 s and complains about anything that is broken.
    if timeout 60 ffmpeg -nostdin -v error -i "$url" -t 5 -f null - 2>"$data/ffmpeg" && [ ! -s "$data/ffmpeg" ]; then
        echo "ffmpeg     $rendition: $(ffprobe -v error -show_entries stream=codec_name,width,height,sample_rate -of csv=p=0 "$url" | head -n 1)"
    else
        echo "ffmpeg     $rendition: NOT MET"; head -n 5 "$data/ffmpeg"; status=1
    fi
    # GStreamer presents 60 decoded buffers at their times and names each.
    sink="fakesink num-buffers=60 silent=false sync=true"
    timeout 60 gst-launch-1.0 -v playbin3 uri="$url" video-sink="$sink" audio-sink="$sink" \
        >"$data/gst" 2>&1 || true
    shown=$(grep -c 'last-message = chain' "$data/gst" || true)
    echo "GStreamer  $rendition: $shown buffers presented"
    [ "$shown" -ge 60 ] || { echo "GStreamer  $rendition: NOT MET"; tail -n 3 "$data/gst"; status=1; }
done
python3 - "$base" <<'PY' || status=1
import re, struct, sys, urllib.parse, urllib.request
base = sys.argv[1]
get = lambda path: urllib.request.urlopen(urllib.parse.urljoin(f"{base}/", path), timeout=10).read()
def boxes(data, at=0, end=None):
    end = len(data) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        yield kind, at + 8, at + size
        at += size
def find(data, path, at=0, end=None):
    for kind, start, stop in boxes(data, at, end):
        if kind == path[0]:
            return (start, stop) if len(path) == 1 else find(data, path[1:], start, stop)
def first_time(rendition, init, segment):
    start, _ = find(init, [b"moov", b"trak", b"mdia", b"mdhd"])
    scale = struct.unpack(">I", init[start + 12:start + 16] if init[start] == 0 else init[start + 20:start + 24])[0]
    start, _ = find(segment, [b"moof", b"traf", b"tfdt"])
    time = struct.unpack(">Q" if segment[start] else ">I", segment[start + 4:start + (12 if segment[start] else 8)])[0]
    return time / scale
times = {}
for rendition in ("720p", "480p", "360p", "audio"):
    text = get(f"{rendition}/media.m3u8").decode()
    init = get(f"{rendition}/" + re.search(r'#EXT-X-MAP:URI="([^"]+)"', text)[1])
    for path in re.findall(r"^(\.\./\d+/[^/]+/\d+\.m4s)$", text, re.M)[-4:]:
        msn = int(path.rsplit("/", 1)[1].split(".")[0])
        times.setdefault(msn, {})[rendition] = first_time(rendition, init, get(f"{rendition}/{path}"))
worst = 0.0
whole = {msn: t for msn, t in times.items() if len(t) == 4}
for msn, t in whole.items():
    video = [t[r] for r in ("720p", "480p", "360p")]
    worst = max(worst, max(video) - min(video), abs(t["audio"] - min(video)))
print(f"{len(whole)} segments compared: first presentation times differ by {worst * 1000:.1f} ms at most (a frame is 33.3 ms)")
sys.exit(0 if whole and worst <= 1 / 30 else 1)
PY
[ "$status" -eq 0 ] && echo PASS || { echo "NOT MET"; exit 1; }
