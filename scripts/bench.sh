#!/usr/bin/env bash
# The benchmark table: rows 3, 6, 7 and 8, each by its own script, in a release build. Goes on after
# a row that falls short and exits 1 at the end.
set -uo pipefail
cd "$(dirname "$0")/.."
cargo build --release --bin broadcaster --example bench_origin || exit 1
status=0
row() { echo; echo "== $1"; shift; "$@" || status=1; }
row "row 3: latency and first frame of the demo stream" env SHOAL_BIN=target/release/broadcaster node viewer-web/e2e/latency.mjs
row "row 6: passthrough of 1080p30 at 6 Mbit/s" scripts/bench-relay.sh
row "row 7: a ladder beside ffmpeg" scripts/bench-ladder.sh target/release/broadcaster
row "row 8: the origin beside nginx, and blocked requests" target/release/examples/bench_origin
exit "$status"
