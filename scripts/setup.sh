#!/usr/bin/env bash
# Installs what building, testing and running Shoal needs and is missing. Safe to run twice; says
# nothing and takes a second when nothing is missing. Debian 12/13, Ubuntu 22.04/24.04; elsewhere
# it names the packages and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

# What the broadcaster is built with and runs on.
packages=(
    ca-certificates pkg-config gcc libc6-dev make
    libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
    fonts-dejavu-core
)
# What the tests need besides: an encoder to push with, a browser to watch with.
test_packages=(ffmpeg chromium gstreamer1.0-tools curl python3)

with_tests=yes
case "${1:-}" in
    --run-only) with_tests=no ;;
    "") ;;
    *) say "usage: scripts/setup.sh [--run-only]"; exit 2 ;;
esac
[ "$with_tests" = no ] || packages+=("${test_packages[@]}")

missing=()
if command -v dpkg-query >/dev/null; then
    for package in "${packages[@]}"; do
        state=$(dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null || true)
        [[ $state == ii* ]] || missing+=("$package")
    done
else
    missing=("${packages[@]}")
fi

if [ ${#missing[@]} -gt 0 ]; then
    id=unknown version=""
    # shellcheck disable=SC1091
    [ ! -r /etc/os-release ] || { . /etc/os-release; id=${ID:-unknown} version=${VERSION_ID:-}; }
    case "$id-$version" in
        debian-12 | debian-13 | ubuntu-22.04 | ubuntu-24.04) ;;
        *)
            say "this system ($id $version) is not one that setup knows; install these, or what they are called here:"
            say "  ${missing[*]}"
            exit 1
            ;;
    esac
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || { say "run this as root, or install sudo, to install: ${missing[*]}"; exit 1; }
        as_root=(sudo)
    fi
    # Ubuntu's chromium package is a snap, which cannot run everywhere; it is installed all the same.
    [ "$id" != ubuntu ] || missing=("${missing[@]/#chromium/chromium-browser}")
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

command -v cargo >/dev/null || { say "Rust is missing: install it with rustup (https://rustup.rs), then run this again"; exit 1; }
# Browsers run the same playlists and records (needed by `make check`).
if [ "$with_tests" = yes ] && command -v rustup >/dev/null &&
    ! rustup target list --installed 2>/dev/null | grep -q '^wasm32-unknown-unknown$'; then
    say "adding the Rust target wasm32-unknown-unknown"
    rustup target add wasm32-unknown-unknown >/dev/null 2>&1 || say "it cannot be added; \`make check\` needs it"
fi
command -v npm >/dev/null || { say "Node.js 20 or newer with npm is missing: install it, then run this again"; exit 1; }
node_major=$(node -p 'process.versions.node.split(".")[0]')
[ "$node_major" -ge 20 ] || { say "Node.js $node_major is too old: 20 or newer is needed"; exit 1; }

# Node modules, when the lock file is newer than what is installed.
if [ ! -e viewer-web/node_modules/.package-lock.json ] ||
    [ viewer-web/package-lock.json -nt viewer-web/node_modules/.package-lock.json ]; then
    say "installing Node modules"
    npm --prefix viewer-web ci --no-audit --no-fund --loglevel=error >&2
fi
