"""What is measured of a proxy: CPU of its whole process tree, memory, and what wrk and h2load say of it."""
import os, pathlib, re, resource, socket, statistics, subprocess, tempfile, time

TICK = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def descriptors(wanted=0):
    """How many files a process may open: raised where that is allowed, and inherited by every proxy."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (hard, hard)):
        if limits[0] > soft:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                return limits[0]
            except (ValueError, OSError):
                pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def await_port(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


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
    """Proportional set size of the whole tree, KiB."""
    total = 0
    for p in tree(pid):
        for line in pathlib.Path(f"/proc/{p}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


class Failed(Exception):
    """A proxy that answers with errors is not measured."""


def wrk(pid, url, seconds, connections, headers=(), script=None):
    """CPU and rate at full load. A request that fails ends the comparison: errors are cheap to make."""
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    for header in headers:
        argv += ["-H", header]
    if script:
        argv += ["-s", str(script)]
    before = cpu(pid)
    out = subprocess.run([*argv, url], capture_output=True, text=True, check=True).stdout
    used = cpu(pid) - before
    requests = int(re.search(r"(\d+) requests in", out)[1])
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out)
    return {
        "us": used / max(requests, 1) * 1e6, "requests": requests, "rate": requests / seconds,
        "refused": int(refused[1]) if refused else 0, "broken": sum(map(int, broken.groups())) if broken else 0,
    }


def h2load(pid, url, seconds, clients, streams):
    before = cpu(pid)
    out = subprocess.run(
        ["h2load", "-t1", f"-c{clients}", f"-m{streams}", f"-D{seconds}", url], capture_output=True, text=True, check=True).stdout
    used = cpu(pid) - before
    done = re.search(r"requests: (\d+) total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed", out)
    requests = int(done[2])
    return {"us": used / max(requests, 1) * 1e6, "requests": requests, "rate": requests / seconds,
            "refused": int(re.search(r"(\d+) 4xx", out)[1]), "broken": int(done[3])}


def at_rate(pid, url, seconds, clients, rate):
    """Latency percentiles in microseconds at a fixed number of requests a second, far below what saturates."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        os.unlink(log.name)
        before = cpu(pid)
        subprocess.run(
            ["h2load", "--h1", "-t1", f"-c{clients}", f"-D{seconds}", f"--rps={rate / clients:g}", f"--log-file={log.name}", url],
            capture_output=True, text=True, check=True)
        used = cpu(pid) - before
        lines = [line.split("\t") for line in pathlib.Path(log.name).read_text().splitlines()]
        pathlib.Path(log.name).touch()
    times = sorted(int(line[2]) for line in lines)
    if not times:
        raise Failed("no request was answered")
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    return {"us": used / len(times) * 1e6, "requests": len(times), "rate": len(times) / seconds,
            "p50": at(0.5), "p99": at(0.99), "p999": at(0.999),
            "refused": sum(line[1] != "200" for line in lines), "broken": 0}


def idle(pid, port, count, path):
    """Bytes for each connection that has asked once and is silent since."""
    if descriptors() < count + 256:
        raise Failed(f"{descriptors()} open files are allowed, {count + 256} are needed")
    before = resident(pid)
    held = []
    request = f"GET {path} HTTP/1.1\r\nHost: app.example.com\r\n\r\n".encode()
    try:
        for number in range(count):
            s = socket.socket()
            s.bind((f"127.0.0.{2 + number // 10_000}", 0))
            s.connect(("127.0.0.1", port))
            s.sendall(request)
            got = b""
            while b"\r\n\r\n" not in got:
                more = s.recv(65536)
                if not more:
                    raise Failed(f"connection {number} was closed")
                got += more
            head, body = got.split(b"\r\n\r\n", 1)
            left = int(re.search(rb"content-length: (\d+)", head, re.I)[1]) - len(body)
            while left > 0:
                left -= len(s.recv(65536))
            held.append(s)
        time.sleep(4)
        return {"bytes": (resident(pid) - before) * 1024 / count}
    finally:
        for s in held:
            s.close()
        time.sleep(0.5)


def median(runs, key):
    return statistics.median(run[key] for run in runs)
