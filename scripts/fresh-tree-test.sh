#!/usr/bin/env bash
# Row 1: in a fresh Debian 12 tree with only the Rust toolchain and Node added (and make, to run
# make), `make run` ends in a page that plays the demo stream, and `make test` passes.
#
#   sudo scripts/fresh-tree-test.sh [FOLDER]      FOLDER must not exist; a new one below TMPDIR
#
# What is tested is the last commit, not the working tree. Everything that is mounted or started
# lives in namespaces of its own and goes with them; the tree is removed at the end unless KEEP=1.
# Takes the Debian mirror from this machine's apt; MIRROR=URL names another.
# Bounds in minutes: RUN_MINUTES (make run, 60), TEST_MINUTES (make test, 90).
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.."

suite=bookworm
run_minutes=${RUN_MINUTES:-60} test_minutes=${TEST_MINUTES:-90}
say() { printf 'fresh-tree: %4ds  %s\n' "$SECONDS" "$*" >&2; }
fail() { say "$*"; exit 1; }

# ---- inside the namespaces: mount, then run the steps in the tree ------------------------------
if [ "${1:-}" = --inside ]; then
    tree=$2
    mount --make-rprivate /
    mount -t proc proc "$tree/proc"
    mount -t sysfs -o ro sysfs "$tree/sys"
    mount -t tmpfs -o mode=755,size=16m dev "$tree/dev"
    mkdir -p "$tree/dev/shm" "$tree/dev/pts"
    for node in null zero full random urandom tty; do
        touch "$tree/dev/$node"
        mount --bind "/dev/$node" "$tree/dev/$node"
    done
    mount -t tmpfs -o mode=1777,size=2g shm "$tree/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$tree/dev/pts"
    ln -s pts/ptmx "$tree/dev/ptmx"
    ln -s /proc/self/fd "$tree/dev/fd"
    exec chroot "$tree" /usr/bin/env -i HOME=/root LANG=C.UTF-8 TERM=dumb \
        PATH=/root/.cargo/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        RUN_MINUTES="$run_minutes" TEST_MINUTES="$test_minutes" \
        bash -c 'set -a; . /etc/fresh-tree.env; set +a; exec bash /src/fresh-tree-steps.sh'
fi

# ---- outside: make the tree --------------------------------------------------------------------
[ "$(id -u)" -eq 0 ] || fail "run this as root: it makes a chroot"
for tool in debootstrap unshare git rustc cargo node npm; do
    command -v "$tool" >/dev/null || fail "$tool is missing"
done
tree=${1:-$(mktemp -u "${TMPDIR:-/tmp}/shoal-fresh-XXXXXX")}
[ ! -e "$tree" ] || fail "$tree exists already; name a folder that does not"
mkdir -p "$tree"
free_kib=$(df --output=avail -k "$tree" | tail -n 1)
[ "$free_kib" -gt $((20 * 1024 * 1024)) ] || fail "20 GB are needed in $tree"
cleanup() {
    # The mounts went with their namespace; never delete through one that is left.
    if grep -q " $tree/" /proc/mounts; then say "something is still mounted below $tree"; return; fi
    [ "${KEEP:-0}" = 1 ] && say "kept: $tree" || rm -rf --one-file-system "$tree"
}
trap cleanup EXIT

# Where this machine's apt gets Debian from.
mirror=${MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' | awk -v s="$suite" '$2 == s { print $1; exit }')}
[ -n "$mirror" ] || fail "apt here knows no Debian $suite: name a mirror with MIRROR=URL"
security=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' | awk -v s="$suite-security" '$2 == s { print $1; exit }')

say "debootstrap $suite into $tree"
timeout 30m debootstrap --variant=minbase --include=ca-certificates,make "$suite" "$tree" "$mirror" \
    >"$tree.log" 2>&1 || { tail -n 20 "$tree.log"; fail "debootstrap failed"; }
rm -f "$tree.log"
printf 'deb %s %s main\n' "$mirror" "$suite" >"$tree/etc/apt/sources.list"
[ -z "$security" ] || printf 'deb %s %s-security main\n' "$security" "$suite" >>"$tree/etc/apt/sources.list"

# The way out: name servers, proxies and the authorities that this machine trusts.
cp -L /etc/resolv.conf "$tree/etc/resolv.conf"
cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/ca-certificates.crt"
[ ! -d /usr/local/share/ca-certificates ] || cp -rL /usr/local/share/ca-certificates/. "$tree/usr/local/share/ca-certificates/"
apt-config dump | grep -E '^Acquire::(http|https)(::[^ ]*)?::Proxy ' >"$tree/etc/apt/apt.conf.d/80proxy" || true
env | grep -iE '^(https?_proxy|no_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_FILE)=' >"$tree/etc/fresh-tree.env" || true

say "adding the Rust toolchain and Node"
sysroot=$(rustc --print sysroot)
toolchain=$(basename "$sysroot")
mkdir -p "$tree/root/.rustup/toolchains" "$tree/root/.cargo/bin" "$tree/usr/local/bin" "$tree/usr/local/lib/node_modules"
cp -a "$sysroot" "$tree/root/.rustup/toolchains/"
printf 'version = "12"\ndefault_toolchain = "%s"\n' "$toolchain" >"$tree/root/.rustup/settings.toml"
cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
for tool in rustup cargo rustc rustdoc rustfmt cargo-fmt cargo-clippy clippy-driver; do
    [ ! -e "$cargo_bin/$tool" ] || cp -aL "$cargo_bin/$tool" "$tree/root/.cargo/bin/"
done
cp -L "$(command -v node)" "$tree/usr/local/bin/node"
npm_cli=$(readlink -f "$(command -v npm)")
cp -a "$(dirname "$(dirname "$npm_cli")")" "$tree/usr/local/lib/node_modules/npm"
ln -s ../lib/node_modules/npm/bin/npm-cli.js "$tree/usr/local/bin/npm"
ln -s ../lib/node_modules/npm/bin/npx-cli.js "$tree/usr/local/bin/npx"

say "cloning $(git rev-parse --short HEAD)"
mkdir -p "$tree/src"
git clone -q --no-hardlinks --depth 1 "file://$PWD" "$tree/src/shoal"

# The ports are this machine's, so they must be free ones; on a machine of its own the defaults do.
cat >"$tree/src/fresh-tree-steps.sh" <<'STEPS'
set -euo pipefail
cd /src/shoal
say() { printf 'fresh-tree: %4ds  %s\n' "$SECONDS" "$*" >&2; }
fail() { say "$*"; exit 1; }
free_port() { node -e 's = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }
http=$(free_port) admin=$(free_port) rtmp=$(free_port)

say "make run"
SHOAL_HTTP=127.0.0.1:$http SHOAL_ADMIN=127.0.0.1:$admin SHOAL_RTMP=127.0.0.1:$rtmp SHOAL_DATA=/tmp/shoal-data \
    setsid make run >/src/run.log 2>&1 </dev/null &
run=$!
page="http://127.0.0.1:$http/watch/demo"
deadline=$((SECONDS + RUN_MINUTES * 60))
until node -e "fetch('http://127.0.0.1:$http/live/demo/master.m3u8').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"; do
    kill -0 "$run" 2>/dev/null || { tail -n 40 /src/run.log; fail "make run ended"; }
    [ $SECONDS -lt $deadline ] || { tail -n 40 /src/run.log; fail "make run took more than $RUN_MINUTES minutes"; }
    sleep 2
done
say "make run serves; it says:"
grep -vE '^\s*(Compiling|Downloaded|Downloading)' /src/run.log | tail -n 25 >&2

# The browser is what the viewer brings, and what `make test` installs.
scripts/setup.sh >/src/setup.log 2>&1 || { tail -n 20 /src/setup.log; fail "setup failed"; }
say "opening $page"
timeout 300 node viewer-web/e2e/plays.mjs "$page" || fail "the page does not play"
say "the page plays"
kill -TERM -- "-$run" 2>/dev/null || true
wait "$run" || true

say "make test"
timeout "${TEST_MINUTES}m" make test >/src/test.log 2>&1 </dev/null || { tail -n 60 /src/test.log; fail "make test failed"; }
grep -E '^(test result|ℹ (tests|pass|fail)|# (tests|pass|fail)| *(Test Files|Tests) )' /src/test.log >&2
say "make test passed"
STEPS

say "entering the tree"
unshare --mount --pid --fork --kill-child -- bash "$self" --inside "$tree"
say "PASS: make run plays and make test passes in a fresh $suite tree"
