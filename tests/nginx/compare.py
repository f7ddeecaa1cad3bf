#!/usr/bin/env python3
"""One site, twice: config/from-nginx/nginx.conf under nginx and portcullis.toml under Portcullis, in front of the same
applications. Both get the same requests; statuses, the headers named below and the answers of the applications must be equal. What refusals say is for
taste, and Portcullis may add the headers in ADDED to its own answers.

Usage: tests/nginx/compare.py PORTCULLIS [--load SECONDS]
--load besides: wrk (HTTP/1.1) and h2load (HTTP/2) over TLS, while Portcullis reloads ten times and hands over to a new binary.
Needs curl and openssl; without nginx it says so and passes.
"""
import http.server, json, os, pathlib, re, shutil, signal, socket, ssl, subprocess, sys, tempfile, threading, time

HEADERS = ["location", "strict-transport-security", "x-content-type-options", "x-frame-options", "retry-after", "upgrade"]
# What our own answers may have beyond nginx's.
ADDED = {"x-content-type-options", "x-frame-options", "retry-after"}
OFFICE = ["--interface", "127.0.0.2"]
ADA = ["-u", "ada:correct horse"]
HTML = ["-H", "Accept: text/html"]
REQUESTS = [
    ("plain text is sent to https", "http://shop.example/a%20b?x=1&y=/", []),
    ("every name is", "http://api.shop.example/v1/x", []),
    ("an application answers", "https://shop.example/", []),
    ("path and query go up as they came", "https://shop.example/a%2Fb/c?x=%20&y", []),
    ("HTTP/1.1 as well", "https://shop.example/", ["--http1.1"]),
    ("HEAD", "https://shop.example/page", ["-I"]),
    ("POST with a body", "https://shop.example/form", ["-d", "a=b"]),
    ("a body that is too large", "https://shop.example/form", ["--data-binary", "@large", "-H", "Expect:"]),
    ("forged forwarding headers are replaced", "https://shop.example/", ["-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-Forwarded-Proto: gopher"]),
    ("the application's own 404", "https://shop.example/status/404", []),
    ("the application's own 500", "https://shop.example/status/500", []),
    ("www goes to the bare name", "https://www.shop.example/p?q=1", []),
    ("old links lead on", "https://shop.example/catalogue/shoes/7?size=42", []),
    ("a fixed answer", "https://shop.example/up", []),
    ("dot files", "https://shop.example/.git/config", []),
    ("and deeper", "https://shop.example/a/.env", []),
    ("staff pages from elsewhere", "https://shop.example/admin/", ADA),
    ("staff pages without a password", "https://shop.example/admin/", OFFICE),
    ("with a wrong one", "https://shop.example/admin/", OFFICE + ["-u", "ada:wrong"]),
    ("as somebody else", "https://shop.example/admin/", OFFICE + ["-u", "eve:correct horse"]),
    ("with the right one", "https://shop.example/admin/x", OFFICE + ADA),
    ("internal pages", "https://shop.example/internal/x", []),
    ("from outside", "https://shop.example/internal/x", ["--interface", "127.0.0.9"]),
    ("the prefix is cut", "https://api.shop.example/v1/orders/7?x=1", []),
    ("POST to the other application", "https://api.shop.example/v1/orders", ["-d", "{}"]),
    ("another method", "https://api.shop.example/v1/orders/7", ["-X", "DELETE"]),
    ("no such path", "https://api.shop.example/v2/x", []),
    ("a name that nobody has", "https://nobody.example/", []),
    ("closed for a while", "https://old.shop.example/x", HTML),
    ("sign-in, first", "https://shop.example/login", ["-d", "u=a"]),
    ("sign-in, second", "https://shop.example/login", ["-d", "u=a"]),
    ("sign-in, third", "https://shop.example/login", ["-d", "u=a"]),
    ("sign-in, fourth", "https://shop.example/login", ["-d", "u=a"]),
    ("sign-in of somebody else", "https://shop.example/login", ["--interface", "127.0.0.3", "-d", "u=a"]),
]


class Application(http.server.BaseHTTPRequestHandler):
    """Answers with what it saw."""
    protocol_version = "HTTP/1.1"

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("upgrade") == "websocket":
            self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            while data := self.connection.recv(1024):
                self.connection.sendall(data)
            self.close_connection = True
            return
        code = re.fullmatch(r"/status/(\d+)", self.path)
        seen = {"app": self.server.app, "method": self.command, "path": self.path, "body": len(body)}
        for name in ["host", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"]:
            seen[name] = self.headers.get_all(name)
        text = json.dumps(seen).encode()
        self.send_response(int(code[1]) if code else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_GET = do_HEAD = do_POST = do_DELETE = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


def application(app):
    server = Server(("127.0.0.1", 0), Application)
    server.app = app
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_address[1]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, what):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit(f"nginx: {what} does not listen")


def ask(ports, url, more, work):
    command = ["curl", "-sk", "--max-time", "10", "-o", "body", "-D", "head", "-w", "%{http_code} %{http_version}",
               "--connect-to", f"::127.0.0.1:{ports[url.split(':')[0]]}", *more, url]
    got = subprocess.run(command, cwd=work, capture_output=True, text=True).stdout
    head = (work / "head").read_text().lower() if (work / "head").exists() else ""
    fields = {}
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if colon and name in HEADERS:
            fields.setdefault(name, []).append(value.strip())
        if colon and name == "www-authenticate":
            # What follows the realm is for taste.
            fields[name] = value.split(",")[0].strip()
    result = {"status and version": got, "headers": fields}
    status = got[:3]
    if "-I" in more:
        return result
    try:
        result["answer"] = json.loads((work / "body").read_text())
    except (ValueError, OSError):
        pass
    if status in ("503", "200") and "answer" not in result:
        result["answer"] = (work / "body").read_text().strip() if (work / "body").exists() else ""
    elif "app" not in (result.get("answer") or {}):
        # A refusal: each has its own words for it.
        result.pop("answer", None)
    for name in ("body", "head"):
        (work / name).unlink(missing_ok=True)
    return result


def websocket(port):
    context = ssl._create_unverified_context()
    with socket.create_connection(("127.0.0.1", port), 5) as plain, context.wrap_socket(plain, server_hostname="shop.example") as s:
        s.sendall(b"GET /ws/chat HTTP/1.1\r\nHost: shop.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += s.recv(1)
        s.sendall(b"are you there")
        return {"status": head.split()[1].decode(), "echo": s.recv(100).decode()}


def configured(source, work, name, ports, applications):
    text = (source / name).read_text()
    for old, new in [("127.0.0.1:80\\b", ports["http"]), ("127.0.0.1:443\\b", ports["https"]), ("127.0.0.1:3000", applications[0]),
                     ("127.0.0.1:3001", applications[1]), ("127.0.0.1:3100", applications[2])]:
        text = re.sub(old, f"127.0.0.1:{new}", text)
    return text


def load(portcullis, ports, work, seconds):
    """Ten reloads and one hand-over under load; how many requests failed."""
    tools = [tool for tool in ("wrk", "h2load") if shutil.which(tool)]
    if len(tools) < 2:
        print("load: skipped, wrk or h2load is not installed")
        return 0
    target = f"https://127.0.0.1:{ports['https']}/up"
    wrk = subprocess.Popen(["wrk", "-t1", "-c8", f"-d{seconds}s", "-H", "Host: shop.example", target], stdout=subprocess.PIPE, text=True)
    h2load = subprocess.Popen(["h2load", "-t1", "-c4", "-m4", f"-D{seconds}", "-H", ":authority: shop.example",
                              f"https://127.0.0.1:{ports['https']}/from/the/application"],
                              stdout=subprocess.PIPE, text=True)
    pid, path = portcullis.pid, work / "portcullis.toml"
    text = path.read_text()
    pause = seconds / 14
    time.sleep(pause)
    for number in range(10):
        path.write_text(text + f'\n[[deny]]\nname = "closed-{number}"\npath = "/closed/{number}"\n')
        os.kill(pid, signal.SIGHUP)
        time.sleep(pause)
    os.kill(pid, signal.SIGUSR2)
    portcullis.wait(timeout=60)
    status = json.loads(subprocess.run(["curl", "-s", "--unix-socket", "admin.sock", "http://admin/status"], cwd=work,
                                       capture_output=True, text=True).stdout)
    (work / "pid").write_text(str(status["pid"]))
    print(f"load: ten reloads by HUP, then USR2: process {pid} became {status['pid']}")
    out = wrk.communicate()[0] + h2load.communicate()[0]
    print("\n".join("  " + line.strip() for line in out.splitlines()
                    if re.search(r"requests in|Non-2xx|Socket errors|^requests:|^status codes|finished", line)))
    generations = re.findall(r"generation=(\d+)", (work / "log").read_text())
    print(f"  generations told in the log: {', '.join(dict.fromkeys(generations))}")
    failed = sum(int(n) for n in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    failed += sum(int(n) for pair in re.findall(r"(\d+) failed, (\d+) errored", out) for n in pair)
    failed += sum(int(n) for row in re.findall(r"connect (\d+), read (\d+), write (\d+), timeout (\d+)", out) for n in row)
    print(f"load: {failed} requests failed")
    return failed


def main():
    binary = pathlib.Path(sys.argv[1]).resolve()
    if not shutil.which("nginx"):
        print("nginx: skipped, it is not installed")
        return 0
    source = pathlib.Path(__file__).resolve().parents[2] / "config/from-nginx"
    running = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)
        shutil.copytree(source, work, dirs_exist_ok=True)
        (work / "tls").mkdir()
        names = "shop.example,DNS:*.shop.example,DNS:nobody.example"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                        "-keyout", "tls/shop.key", "-out", "tls/shop.pem", "-subj", "/CN=shop.example",
                        "-addext", f"subjectAltName=DNS:{names}"], cwd=work, check=True, stderr=subprocess.DEVNULL)
        (work / "large").write_bytes(b"x" * (2 << 20))
        applications = [application("app"), application("app"), application("api")]
        ports = {who: {"http": free_port(), "https": free_port()} for who in ("nginx", "portcullis")}
        head = f"pid {work}/nginx.pid;\nerror_log {work}/nginx.log;\n"
        temp = "".join(f"    {kind}_temp_path {work}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        text = configured(source, work, "nginx.conf", ports["nginx"], applications)
        text = text.replace("http {\n", "http {\n    access_log off;\n" + temp, 1)
        (work / "nginx.conf").write_text(head + text)
        text = configured(source, work, "portcullis.toml", ports["portcullis"], applications)
        (work / "portcullis.toml").write_text('[admin]\nsocket = "admin.sock"\n[access_log]\npath = "access.log"\n' + text)
        try:
            subprocess.run([binary, "check", "portcullis.toml"], cwd=work, check=True)
            running.append(subprocess.Popen(["nginx", "-p", str(work), "-c", str(work / "nginx.conf"), "-g", "daemon off;"], cwd=work))
            log = open(work / "log", "w")
            portcullis = subprocess.Popen([binary, "run", "--config", "portcullis.toml"], cwd=work, stderr=log)
            running.append(portcullis)
            for who, pair in ports.items():
                for port in pair.values():
                    wait_for(port, who)
            wrong = 0
            for name, url, more in REQUESTS:
                theirs, ours = (ask(ports[who], url, more, work) for who in ("nginx", "portcullis"))
                for header in ADDED - theirs["headers"].keys():
                    ours["headers"].pop(header, None)
                same = theirs == ours
                wrong += not same
                print(f"{'same' if same else 'DIFFERENT':9} {ours['status and version']:6} {name}")
                if not same:
                    print(f"    nginx      {theirs}\n    portcullis {ours}")
            theirs, ours = (websocket(ports[who]["https"]) for who in ("nginx", "portcullis"))
            wrong += theirs != ours
            print(f"{'same' if theirs == ours else 'DIFFERENT':9} {ours['status']:6} a WebSocket echoes {theirs if theirs != ours else ''}")
            print(f"{len(REQUESTS) + 1} requests, {wrong} answered differently")
            if "--load" in sys.argv:
                wrong += load(portcullis, ports["portcullis"], work, int(sys.argv[sys.argv.index("--load") + 1]))
            return 1 if wrong else 0
        finally:
            for process in running:
                process.terminate()
            if (work / "pid").exists():
                os.kill(int((work / "pid").read_text()), signal.SIGTERM)
            for process in running:
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
