#!/usr/bin/env python3
"""Writes an access log of N lines as the proxy writes them, and times `portcullis replay` on it.

    cargo build --release && python3 benches/replay/replay.py [LINES] [BINARY]

The policy is config/examples/streaming.toml; the lines come from clients of several countries, some signed in, a tenth refused.
"""
import json
import os
import pathlib
import random
import resource
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
BINARY = sys.argv[2] if len(sys.argv) > 2 else str(ROOT / "target/release/portcullis")
POLICY = ROOT / "config/examples/streaming.toml"


def line(number: int, dice: random.Random, host: str) -> str:
    country = dice.choice(["NL", "BE", "LU", "DE", "FR", "NO", "US", "unlisted"])
    path = dice.choice(["/", "/play/film-7", "/live/sport/match-12", "/browse/new", "/account", "/assets/app.js"])
    one = {
        "schema": 1,
        "timestamp": f"2026-11-{1 + number % 24:02d}T{number % 24:02d}:{number % 60:02d}:{number // 7 % 60:02d}.{number % 1000000:06d}Z",
        "request.id": f"019ab{number:07x}-7c1d-7f00-8a4e-{dice.getrandbits(48):012x}",
        "client.address": f"{dice.choice([198, 203, 192])}.{dice.randrange(256)}.{dice.randrange(256)}.{dice.randrange(256)}",
        "network.peer.address": "10.0.0.7",
        "network.peer.port": 40000 + number % 20000,
        "http.request.method": dice.choice(["GET", "GET", "GET", "HEAD", "POST"]),
        "server.address": host,
        "url.scheme": "https",
        "url.path": path,
        "url.query": f"q={number}&page=2",
        "network.protocol.version": "2",
        "tls.protocol.version": "1.3",
        "http.request.body.size": 0,
        "http.response.body.size": 5120,
    }
    if dice.random() < 0.9:
        one |= {"http.response.status_code": 200, "response.source": "upstream", "policy.decision": "allow"}
    else:
        one |= {
            "http.response.status_code": 451,
            "response.source": "policy",
            "policy.decision": "deny",
            "policy.reason": "region_restricted",
            "security_rule.name": "sport-rights",
            "security_rule.source": "portcullis.toml:31",
        }
    if dice.random() < 0.5:
        one |= {"user.id": f"user-{number % 5000}", "user.roles": ["premium"], "auth.source": "kino", "facts": {"claim.plan": "pro"}}
    one |= {
        "geo.country.iso_code": country,
        "site": host,
        "route": "/**",
        "upstream.name": "app",
        "upstream.address": "127.0.0.1:3000",
        "upstream.status_code": 200,
        "upstream.retries": 0,
        "duration": 0.012345,
        "policy.duration": 0.000012,
        "upstream.response.duration": 0.011002,
        "user_agent.original": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
        "trace_id": f"{dice.getrandbits(128):032x}",
        "config.generation": 3,
    }
    return json.dumps(one, separators=(",", ":"))


def main() -> None:
    dice = random.Random(4)
    host = "watch.kino.example"
    with tempfile.TemporaryDirectory() as folder:
        log = pathlib.Path(folder) / "access.log"
        block = [line(number, dice, host) for number in range(min(LINES, 5_000))]
        with log.open("w") as out:
            for begin in range(0, LINES, len(block)):
                out.write("\n".join(block[: LINES - begin]) + "\n")
        size = log.stat().st_size
        for _ in range(3):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.monotonic()
            done = subprocess.run([BINARY, "replay", log, "--policy", POLICY], capture_output=True, text=True)
            took = time.monotonic() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{LINES} lines, {size >> 20} MiB: {took:.2f} s, {cpu:.2f} s of CPU, {after.ru_maxrss >> 10} MiB at most; exit {done.returncode}")
        print(done.stdout, done.stderr)


if __name__ == "__main__":
    os.environ.setdefault("NO_COLOR", "1")
    main()
