#!/bin/sh
# The worker's share of row 6: processor time of passing 1080p30 at 6 Mbit/s and AAC through, as a
# share of one core.
# usage: bench-passthrough.sh [BINARY] [SECONDS]
set -eu
binary=${1:-target/release/broadcaster} seconds=${2:-30}
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
ffmpeg -v error -f lavfi -i "testsrc2=s=1920x1080:r=30:d=$seconds" \
    -f lavfi -i "sine=440:sample_rate=48000:d=$seconds" \
    -c:v libx264 -preset ultrafast -b:v 6M -minrate 6M -maxrate 6M -bufsize 6M \
    -x264-params nal-hrd=cbr -g 60 -keyint_min 60 -sc_threshold 0 -bf 0 -pix_fmt yuv420p \
    -c:a aac -b:a 128k -ac 2 -y "$dir/clip.flv"
used=$(python3 "$here/bench-worker.py" "$binary" \
    '{"source":{"kind":"push"},"ladder":"passthrough"}' "$dir/clip.flv" "$seconds")
echo "$used" | awk -v s="$seconds" '{ printf "worker %.1f %% of a core: %s\n", 100 * $1 / s, $0 }'
