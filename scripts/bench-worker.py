#!/usr/bin/env python3
"""Runs one `broadcaster worker` and prints the processor seconds it used.

bench-worker.py BINARY START_JSON [CLIP SECONDS]

With CLIP, an FLV file, the source is Push: the file's H.264 and AAC are sent in real time for
SECONDS. Without, the worker runs until its own source ends. Output: `CPU_SECONDS PARTS BYTES`.
"""
import json, resource, socket, struct, subprocess, sys, threading, time

START, CONFIG, FRAME, DRAIN = 1, 2, 3, 4
PART, STATUS, FAILED, DRAINED = 0x82, 0x83, 0x84, 0x85


def flv_tags(data):
    """Milliseconds, type and body of each tag of an FLV file."""
    at = 9 + 4
    while at + 11 <= len(data):
        kind, size = data[at], int.from_bytes(data[at + 1:at + 4], "big")
        ms = int.from_bytes(data[at + 4:at + 7], "big") | data[at + 7] << 24
        yield ms, kind, data[at + 11:at + 11 + size]
        at += 11 + size + 4


def push(send, path, seconds):
    tags, began = list(flv_tags(open(path, "rb").read())), time.monotonic()
    for ms, kind, body in tags:
        if ms > seconds * 1000:
            break
        if kind == 9 and body[0] & 0xF == 7:
            offset = int.from_bytes(body[2:5], "big")
            if body[1] == 0:
                send(CONFIG, b"\0" + body[5:])
                continue
            if body[1] != 1:
                continue
            head = struct.pack("<BBqq", 0, body[0] >> 4 == 1, (ms + offset) * 1000, ms * 1000)
            body = body[5:]
        elif kind == 8 and body[0] >> 4 == 10:
            if body[1] == 0:
                send(CONFIG, b"\1" + body[2:])
                continue
            head, body = struct.pack("<BBqq", 1, 1, ms * 1000, ms * 1000), body[2:]
        else:
            continue
        time.sleep(max(0, began + ms / 1000 - time.monotonic()))
        send(FRAME, head + body)
    send(DRAIN, b"")


def main():
    binary, start = sys.argv[1], json.loads(sys.argv[2])
    start = {"stream": "bench", "part_us": 500000, "segment_us": 2000000,
             "keyframe_max_us": 2200000, "audio": [
                 {"id": "audio", "kbps": 128, "sample_rate": 48000, "channels": 2}], **start}
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([binary, "worker"], stdin=theirs, stderr=subprocess.DEVNULL)
    theirs.close()

    def send(kind, body):
        ours.sendall(struct.pack("<IB", len(body) + 1, kind) + body)

    send(START, json.dumps(start).encode())
    if len(sys.argv) > 3:
        threading.Thread(target=push, args=(send, sys.argv[3], float(sys.argv[4])), daemon=True).start()
    stream, parts, size, status = ours.makefile("rb"), 0, 0, {}
    while head := stream.read(5):
        length, kind = struct.unpack("<IB", head)
        body = stream.read(length - 1)
        if kind == PART:
            parts, size = parts + 1, size + len(body)
        elif kind == STATUS:
            status = json.loads(body)
        elif kind == FAILED:
            sys.exit("the worker failed: " + json.loads(body)["message"])
    child.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{used.ru_utime + used.ru_stime:.2f} {parts} {size} dropped={status.get('frames_dropped')}")


main()
