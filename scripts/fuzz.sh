#!/usr/bin/env bash
# Runs each fuzz target for SECONDS_EACH (default 60) seconds, on top of the committed corpora.
# New inputs stay in fuzz/target/corpus; a finding stops the run and is kept in fuzz/artifacts.
# Usage: scripts/fuzz.sh [TARGET...]
set -euo pipefail
cd "$(dirname "$0")/.."

if ! rustup toolchain list | grep -q '^nightly'; then
    rustup toolchain install nightly --profile minimal
fi
command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    targets=(rtmp ipc record playlist query)
fi
for target in "${targets[@]}"; do
    echo "== $target"
    mkdir -p "fuzz/target/corpus/$target"
    cargo +nightly fuzz run "$target" "fuzz/target/corpus/$target" "fuzz/corpus/$target" -- \
        -max_total_time="${SECONDS_EACH:-60}" -rss_limit_mb=2048 -timeout=10 -max_len=16384 \
        -print_final_stats=1
done
