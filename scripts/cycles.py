#!/usr/bin/env python3
"""Row 7: so many starts and stops of test streams of three qualities through the API.

A start counts when the first part is listed. Limits: more than 99 % start, fewer than 1 % force
kills, and resident memory, handles, threads and files of the broadcaster are back at the base within 5 %.

    scripts/cycles.py target/release/broadcaster [--cycles 1000] [--parallel 2]
"""
import argparse, concurrent.futures, json, os, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, threading, time, urllib.error, urllib.request

START_MAX_S = 30
FREED_MS = 5000


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Shoal:
    def __init__(self, program):
        self.folder = tempfile.mkdtemp()
        self.data = os.path.join(self.folder, "shoal")
        ports = [free_port() for _ in range(3)]
        self.base = f"http://127.0.0.1:{ports[1]}"
        self.log = open(os.path.join(self.folder, "log"), "w+")
        flags = ["--data", self.data, "--log", "warn", "--admission", "false", "--resource-monitor-interval-ms", "1000"]
        # Ended streams are freed, media on disk included, while nothing is started.
        flags += ["--stream-timeout-ms", str(FREED_MS), "--resource-warning-cpu-percent", "1000"]
        for flag, port in zip(["--http", "--admin", "--rtmp"], ports):
            flags += [flag, f"127.0.0.1:{port}"]
        self.process = subprocess.Popen([program, "serve", *flags], stderr=self.log)
        for _ in range(200):
            try:
                self.get("/healthz")
                break
            except OSError:
                time.sleep(0.1)
        with open(os.path.join(self.data, "admin-token")) as f:
            self.token = f.read().strip()

    def get(self, path):
        return urllib.request.urlopen(self.base + path, timeout=10).read().decode()

    def api(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/api/v1{path}", data, headers, method=method)
        return json.load(urllib.request.urlopen(request, timeout=30))

    def metric(self, name):
        return float(re.search(rf"^{name} (\S+)$", self.get("/metrics"), re.M)[1])

    def figures(self):
        pid = self.process.pid
        status = open(f"/proc/{pid}/status").read()
        kib = int(re.search(r"^VmRSS:\s+(\d+)", status, re.M)[1])
        files = sum(len(names) for _, _, names in os.walk(self.data))
        return {
            "memory_kib": kib,
            "handles": len(os.listdir(f"/proc/{pid}/fd")),
            "threads": int(re.search(r"^Threads:\s+(\d+)", status, re.M)[1]),
            "files": files,
            "workers": len(subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split()),
        }

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(20)
        shutil.rmtree(self.folder)


def cycle(shoal, name):
    """One start and stop; gives how long each took in seconds, None for what failed."""
    begun = time.monotonic()
    try:
        before = shoal.api("GET", f"/streams/{name}")["session"]
        shoal.api("POST", f"/streams/{name}/start")
    except urllib.error.HTTPError:
        return None, None
    started = None
    while time.monotonic() - begun < START_MAX_S:
        view = shoal.api("GET", f"/streams/{name}")
        if view["state"] == "live" and view["session"] > before:
            try:
                # Every quality of this session has a part.
                texts = [shoal.get(f"/live/{name}/{r['id']}/media.m3u8") for r in view["renditions"]]
                if texts and all(f"{view['session']}/" in t.split("#EXT-X-MEDIA-SEQUENCE")[1] and "#EXT-X-PART" in t for t in texts):
                    started = time.monotonic() - begun
                    break
            except OSError:
                pass
        if view["state"] == "failed":
            break
        time.sleep(0.05)
    pid = (shoal.api("GET", f"/streams/{name}")["worker"] or {}).get("pid")
    begun = time.monotonic()
    shoal.api("POST", f"/streams/{name}/stop")
    # Clean when the worker is gone and the stream has ended.
    while time.monotonic() - begun < START_MAX_S:
        gone = pid is None or not os.path.exists(f"/proc/{pid}")
        if gone and shoal.api("GET", f"/streams/{name}")["state"] == "ended":
            return started, time.monotonic() - begun
        time.sleep(0.02)
    return started, None


def main():
    args = argparse.ArgumentParser()
    args.add_argument("program")
    args.add_argument("--cycles", type=int, default=1000)
    args.add_argument("--parallel", type=int, default=2)
    args = args.parse_args()
    shoal = Shoal(args.program)
    broken = []
    try:
        names = [f"c{i}" for i in range(args.parallel)]
        for name in names:
            shoal.api("POST", "/streams", {"name": name, "source": "test", "ladder": ["360p", "240p"], "owner": name})
            shoal.api("POST", f"/streams/{name}/stop")
        # Pools, caches and the allocator reach their size in the first hundred cycles: 20.4 MiB after
        # 20, 21.7 after 50, 23.3 after 100 and after 1,000.
        warm = max(20, args.cycles // 10)
        results, lock = [], threading.Lock()

        def work(name, count):
            for _ in range(count):
                result = cycle(shoal, name)
                with lock:
                    results.append(result)

        def run(count):
            share = [count // args.parallel + (i < count % args.parallel) for i in range(args.parallel)]
            with concurrent.futures.ThreadPoolExecutor(args.parallel) as pool:
                list(pool.map(work, names, share))
            time.sleep(FREED_MS / 1000 + 3)

        run(warm)
        base = shoal.figures()
        results.clear()
        begun, kills = time.monotonic(), shoal.metric("shoal_force_kills_total")
        done = 0
        while done < args.cycles:
            step = min(max(100, args.parallel), args.cycles - done)
            run(step)
            done += step
            print(f"{done:5d} cycles, {time.monotonic() - begun:6.0f} s, {shoal.figures()}", flush=True)
        end = shoal.figures()
        starts = [s for s, _ in results if s is not None]
        cleanups = [c for _, c in results if c is not None]
        killed = shoal.metric("shoal_force_kills_total") - kills
        print(f"started {len(starts)} of {len(results)}: median {statistics.median(starts):.2f} s, longest {max(starts):.2f} s")
        print(f"cleaned up {len(cleanups)}: median {statistics.median(cleanups):.2f} s, longest {max(cleanups):.2f} s")
        print(f"force kills {killed:.0f}, clean-ups failed {shoal.metric('shoal_cleanup_failures_total'):.0f}")
        if len(starts) <= 0.99 * len(results):
            broken.append("starts")
        if killed >= 0.01 * len(results) and killed:
            broken.append("force kills")
        for what, was in base.items():
            print(f"{what}: {was} -> {end[what]} ({100 * (end[what] - was) / max(was, 1):+.1f} %)")
            # A few handles or threads more or less are connections and pools at that moment.
            if end[what] - was > max(0.05 * was, 3 if what in ("handles", "threads", "files") else 0):
                broken.append(what)
    finally:
        shoal.end()
    print("PASS" if not broken else "NOT MET: " + ", ".join(broken))
    sys.exit(bool(broken))


main()
