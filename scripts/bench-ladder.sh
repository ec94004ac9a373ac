#!/bin/sh
# Row 7: processor seconds of the worker for 720p + 480p + 360p (and audio) from one 720p30 file,
# against ffmpeg making the same ladder with the same x264 settings, in turns. Both read in real
# time. Prints each round and the ratio of the sums; the goal is at most 1.10.
# usage: bench-ladder.sh [BINARY] [ROUNDS] [SECONDS]
set -eu
binary=${1:-target/release/broadcaster} rounds=${2:-3} seconds=${3:-20}
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
clip=$dir/source.mp4
ffmpeg -v error -f lavfi -i "testsrc2=s=1280x720:r=30:d=$seconds" \
    -f lavfi -i "sine=440:sample_rate=48000:d=$seconds" \
    -filter_complex "[0:v]noise=alls=8:allf=t[v]" -map "[v]" -map 1:a \
    -c:v libx264 -preset veryfast -b:v 5M -g 60 -pix_fmt yuv420p -c:a aac -ac 2 -y "$clip"

# Runs a command and prints the processor seconds it used.
cpu() {
    python3 -c 'import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"{used.ru_utime + used.ru_stime:.2f}")' "$@"
}

rung() { echo "-b:v:$1 $2k -maxrate:v:$1 $2k -bufsize:v:$1 $2k"; }

theirs() {
    # shellcheck disable=SC2046
    cpu ffmpeg -v error -re -i "$clip" -filter_complex \
        "[0:v]split=3[a][b][c];[b]scale=854:480:flags=bilinear[d];[c]scale=640:360:flags=bilinear[e]" \
        -map "[a]" -map "[d]" -map "[e]" -map 0:a -c:v libx264 -preset superfast -tune zerolatency \
        -threads 1 -bf 0 -sc_threshold 0 -g 1000000 -force_key_frames "expr:gte(t,n_forced*2)" \
        $(rung 0 2500) $(rung 1 1500) $(rung 2 700) -c:a aac -b:a 128k \
        -f mp4 -movflags frag_keyframe+empty_moov+default_base_moof -y "$dir/out.mp4"
}

start="{\"source\":{\"kind\":\"file\",\"path\":\"$clip\",\"repeat\":false},\"ladder\":[\"720p\",\"480p\",\"360p\"]}"
for round in $(seq "$rounds"); do
    ours=$(python3 "$here/bench-worker.py" "$binary" "$start")
    ffmpeg=$(theirs)
    echo "round $round: worker ${ours%% *} s (${ours#* }), ffmpeg $ffmpeg s" >&2
    echo "${ours%% *} $ffmpeg"
done | awk '{ ours += $1; theirs += $2 } END { printf "ratio %.3f\n", ours / theirs }'
