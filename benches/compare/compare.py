#!/usr/bin/env python3
"""CPU per request of Portcullis and nginx, side by side in one run, in front of the same origin.

Absolute figures drift with the machine; the ratio of two proxies measured in turn (A B A B ...) holds. Metric: user and
system time of the proxy's whole process tree per request, from /proc, while wrk loads it over loopback.

Needs nginx and wrk (Debian packages) and a release build. Standard library only.

    python3 benches/compare/compare.py [--binary target/release/portcullis] [--rounds 5] [--seconds 4] [--json FILE]
"""
import argparse, json, os, pathlib, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def await_port(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"nothing listens on port {port}")


def tree(pid):
    """The process and its children."""
    pids = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += tree(int(child))
    return pids


def cpu(pid):
    """Seconds of user and system time of the whole tree."""
    total = 0
    for p in tree(pid):
        fields = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def resident(pid):
    """Proportional set size of the whole tree, MiB."""
    total = 0
    for p in tree(pid):
        for line in pathlib.Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def networks(count):
    return [f"{11 + i // 65536}.{i // 256 % 256}.{i % 256}.0/24" for i in range(count)]


class Proxy:
    def __init__(self, name, argv, port, folder):
        self.name, self.port = name, port
        self.process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=open(folder / f"{name}.err", "w"))
        await_port(port)

    def load(self, path, seconds, connections):
        before = cpu(self.process.pid)
        out = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{self.port}{path}"],
            capture_output=True, text=True, check=True).stdout
        used = cpu(self.process.pid) - before
        requests = int(re.search(r"(\d+) requests in", out)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
        p99 = re.search(r"99%\s+(\S+)", out)[1]
        return {"us": used / requests * 1e6, "rate": rate, "p99": p99, "errors": "Non-2xx" in out}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def origin(folder, port):
    (folder / "html").mkdir()
    (folder / "html" / "small").write_text("x" * 1024)
    (folder / "html" / "large").write_text("x" * 65536)
    (folder / "origin.conf").write_text(f"""
daemon off; worker_processes 2; pid {folder}/origin.pid; error_log /dev/null;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000; server {{ listen 127.0.0.1:{port} backlog=4096; root {folder}/html; }}
client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5; }}
""")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "origin.conf")], stderr=subprocess.DEVNULL)
    await_port(port)
    return process


def nginx(folder, name, port, upstream, log, policy, deny):
    rules = ""
    geo = ""
    if policy:
        entries = "\n".join(f"{n} 1;" for n in networks(10_000))
        geo = f"geo $blocked {{ default 0; {entries} }}\n"
        rules = "if ($blocked) { return 403; }\n"
    conf = folder / f"{name}.conf"
    conf.write_text(f"""
daemon off; worker_processes 2; pid {folder}/{name}.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{
  access_log {log}; keepalive_requests 1000000;
  client_body_temp_path {folder}/a1; proxy_temp_path {folder}/a2; fastcgi_temp_path {folder}/a3; uwsgi_temp_path {folder}/a4; scgi_temp_path {folder}/a5;
  {geo}
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    {rules}
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
    }}
    location /denied {{ {'return 403 "denied by policy, with a body of ours";' if deny else 'return 403;'} }}
  }}
}}
""")
    return Proxy(name, ["nginx", "-p", str(folder), "-c", str(conf)], port, folder)


def portcullis(folder, name, port, upstream, log, policy, binary):
    text = f"""
[server]
workers = 2
[admin]
socket = "{folder}/{name}.sock"
[server.limits]
connections_per_client = 20000
[access_log]
path = "{log}"
format = "json"
[[listener]]
address = "127.0.0.1:{port}"
[upstream.app]
servers = ["http://127.0.0.1:{upstream}"]
"""
    if policy:
        (folder / "blocked.txt").write_text("\n".join(networks(10_000)) + "\n")
        text += '[ip]\nblocked = { file = "blocked.txt" }\n[[deny]]\nname = "blocked"\nip = "@blocked"\n'
    text += '[[site]]\nhost = ["*"]\nupstream = "app"\n'
    if policy:
        for i in range(20):
            text += f'[[site.deny]]\nname = "rule-{i}"\npath = "/area-{i}/**"\nmethod = "DELETE"\n'
    text += '[[site.route]]\npath = "/**"\nallow = "anyone"\n'
    text += '[[site.route]]\npath = "/denied/**"\nallow = "anyone"\n[[site.route.deny]]\nname = "denied"\nreason = "forbidden"\n'
    conf = folder / f"{name}.toml"
    conf.write_text(text)
    return Proxy(name, [binary, "run", "--config", str(conf)], port, folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/portcullis")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--json")
    args = parser.parse_args()
    binary = str(pathlib.Path(args.binary).resolve())
    for tool in ("nginx", "wrk"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is not installed: apt-get install nginx wrk")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="compare-"))
    folder.chmod(0o755)
    upstream = free_port()
    app = origin(folder, upstream)
    rows = []
    try:
        for scenario, path, log, policy, connections in [
            ("plain", "/small", False, False, 64),
            ("access log, 10 000 networks, 20 rules", "/small", True, True, 64),
            ("denied", "/denied", True, False, 64),
            ("64 KiB bodies", "/large", False, False, 64),
        ]:
            one = portcullis(folder, "portcullis", free_port(), upstream, folder / "gate.log" if log else "off", policy, binary)
            two = nginx(folder, "nginx", free_port(), upstream, folder / "nginx.log" if log else "off", policy, True)
            start = (resident(one.process.pid), resident(two.process.pid))
            for proxy in (one, two):
                proxy.load(path, 1, connections)
            ours, theirs = [], []
            for _ in range(args.rounds):
                ours.append(one.load(path, args.seconds, connections))
                theirs.append(two.load(path, args.seconds, connections))
            one.stop(), two.stop()
            ratios = sorted(a["us"] / b["us"] for a, b in zip(ours, theirs))
            row = {
                "scenario": scenario, "ratio": statistics.median(ratios), "min": ratios[0], "max": ratios[-1],
                "portcullis_us": statistics.median(a["us"] for a in ours), "nginx_us": statistics.median(b["us"] for b in theirs),
                "portcullis_rate": statistics.median(a["rate"] for a in ours), "nginx_rate": statistics.median(b["rate"] for b in theirs),
                "portcullis_p99": ours[-1]["p99"], "nginx_p99": theirs[-1]["p99"],
                "portcullis_start_mib": start[0], "nginx_start_mib": start[1],
            }
            rows.append(row)
            print(f"{scenario}: ratio {row['ratio']:.2f} ({row['min']:.2f} to {row['max']:.2f})", file=sys.stderr)
    finally:
        app.terminate()
        shutil.rmtree(folder, ignore_errors=True)
    print("| scenario | CPU per request, ratio to nginx (min to max) | Portcullis | nginx | requests/s | p99 | resident at start |")
    print("|---|---|---|---|---|---|---|")
    for r in rows:
        print(f"| {r['scenario']} | {r['ratio']:.2f} ({r['min']:.2f} to {r['max']:.2f}) | {r['portcullis_us']:.1f} µs | {r['nginx_us']:.1f} µs "
              f"| {r['portcullis_rate']:.0f} / {r['nginx_rate']:.0f} | {r['portcullis_p99']} / {r['nginx_p99']} "
              f"| {r['portcullis_start_mib']:.1f} / {r['nginx_start_mib']:.1f} MiB |")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
