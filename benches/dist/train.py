#!/usr/bin/env python3
"""The load that a profile-guided build learns from: what a proxy in use does, in fixed numbers and a fixed order of kinds.

Unlike the comparison's load on purpose: mixed sizes, header sets, methods and answers; rules of every kind that decide; signed
tokens; refusals as JSON and as pages; chunked and fixed bodies both ways; HTTP/1.1 in clear text and TLS, HTTP/2 where curl
speaks it; kept-alive and short connections. The origin is a small server of its own. Standard library only; `openssl` makes
the certificate.

    python3 benches/dist/train.py BINARY [--requests 30000]
"""
import argparse, base64, hashlib, hmac, http.client, json, pathlib, random, shutil, signal, socket, ssl, subprocess, tempfile, threading, time

SECRET = "a-training-secret-of-thirty-two-bytes"
BODIES = {size: b"x" * size for size in (0, 120, 900, 3000, 14_000, 70_000, 600_000)}


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
    raise SystemExit(f"nothing listens on port {port}")


def serve(connection):
    """An origin for one connection: answers what the path asks for."""
    with connection, connection.makefile("rb") as lines:
        while True:
            request = lines.readline()
            if not request:
                return
            method, path, _ = request.split(b" ", 2)
            length = 0
            while (line := lines.readline()) not in (b"\r\n", b""):
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                elif name.lower() == b"transfer-encoding":
                    length = -1
            if length < 0:
                while size := int(lines.readline(), 16):
                    lines.read(size + 2)
                lines.readline()
            else:
                lines.read(length)
            size = int((path.rsplit(b"/", 1)[-1].split(b"?")[0] or b"0")) if path.rsplit(b"/", 1)[-1].split(b"?")[0].isdigit() else 120
            body = b"" if method == b"HEAD" else BODIES.get(size, b"x" * size)
            head = b"HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nServer: app\r\nContent-Type: application/json\r\n"
            head += b"Cache-Control: private, max-age=60\r\nETag: \"5f-2a\"\r\nVary: Accept-Encoding\r\nSet-Cookie: sid=abc; Path=/; HttpOnly\r\n"
            if b"chunked" in path:
                parts = [body[i:i + 8000] for i in range(0, len(body), 8000)]
                chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
                connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
            elif b"not-modified" in path:
                connection.sendall(head.replace(b"200 OK", b"304 Not Modified") + b"\r\n")
            else:
                connection.sendall(head + b"Content-Length: %d\r\n\r\n" % (size if method == b"HEAD" else len(body)) + body)


def origin():
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)

    def accept():
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=quietly, args=(serve, connection), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def quietly(function, *arguments):
    try:
        function(*arguments)
    except (OSError, ValueError):
        pass


def token(user, roles, plan):
    part = lambda what: base64.urlsafe_b64encode(what if isinstance(what, bytes) else json.dumps(what).encode()).rstrip(b"=")
    claims = {"iss": "https://id.example.com/", "aud": "app", "sub": user, "exp": int(time.time()) + 36_000, "roles": roles, "plan": plan}
    signed = part({"alg": "HS256", "typ": "JWT"}) + b"." + part(claims)
    return (signed + b"." + part(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest())).decode()


def configuration(folder, clear, tls, app):
    (folder / "blocked.txt").write_text("".join(f"{20 + i // 250}.{i % 250}.0.0/17\n" for i in range(4000)))
    (folder / "countries.csv").write_text("network,country\n" + "".join(
        f"{80 + i // 256}.{i % 256}.0.0/16,{['NL', 'DE', 'US', 'KP'][i % 4]}\n" for i in range(4000)))
    (folder / "portcullis.toml").write_text(f"""
[server]
workers = 1
[admin]
socket = "{folder}/admin.sock"
[access_log]
path = "{folder}/access.log"
[geoip]
databases = ["countries.mmdb"]
[client]
trusted_proxies = ["127.0.0.0/8"]
[ip]
blocked = {{ file = "blocked.txt" }}
office = ["90.1.0.0/16", "2001:db8::/32"]
[role]
admin = ["editor"]
editor = ["viewer"]
viewer = []
[claim]
plan = {{ order = ["free", "pro", "enterprise"] }}
[identity.sso]
jwt = {{ issuer = "https://id.example.com/", audience = "app", secret = "{SECRET}", algorithms = ["HS256"], roles = "roles" }}
[[listener]]
address = "127.0.0.1:{clear}"
[[listener]]
address = "127.0.0.1:{tls}"
tls = {{ certificates = [{{ cert = "cert.pem", key = "key.pem" }}] }}
[upstream.app]
servers = ["http://127.0.0.1:{app}"]
[[deny]]
name = "blocked"
ip = "@blocked"
reason = "address_blocked"
[[deny]]
name = "sanctioned"
country = ["KP", "SY"]
status = 451
reason = "region_restricted"
[[site]]
host = ["app.example.com", "*.apps.example.com"]
upstream = "app"
identity = ["sso"]
headers_to_upstream = {{ user = "X-User", roles = "X-Roles" }}
[[site.deny]]
name = "old-agents"
header.user-agent = {{ glob = "*curl/6*" }}
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/office/**"
allow = [{{ ip = "@office" }}, {{ role = "viewer" }}]
[[site.route]]
path = "/admin/**"
allow = [{{ role = "admin" }}]
[[site.route]]
path = "/plans/*/export"
allow = [{{ claim."plan" = {{ at_least = "pro" }}, method = "GET" }}]
[[site.route]]
path = "/old/**"
redirect = {{ to = "https://{{host}}/new/{{tail}}{{query}}", status = 308 }}
[[site]]
host = ["*"]
upstream = "app"
allow = "anyone"
""")


AGENTS = ["curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
          "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"]


def one(dice, tokens):
    """A request: method, target, header fields, body."""
    size = dice.choices([120, 900, 3000, 14_000, 70_000, 600_000], [30, 30, 20, 10, 8, 2])[0]
    target = dice.choice([f"/api/v{dice.randrange(3)}/orders/{size}", f"/static/app.{dice.randrange(99)}.js/{size}?v={dice.randrange(9)}",
                          f"/chunked/{size}", "/not-modified", f"/office/files/{size}", f"/admin/{size}", f"/plans/{dice.randrange(50)}/export",
                          f"/old/a/{dice.randrange(9)}?x=1", f"/search%20me/{size}"])
    headers = {"Host": dice.choice(["app.example.com", "a.apps.example.com", "www.elsewhere.example"]), "User-Agent": dice.choice(AGENTS),
               "Accept": dice.choice(["*/*", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "application/json"])}
    if dice.random() < 0.5:
        headers |= {"Accept-Encoding": "gzip, deflate, br", "Accept-Language": "nl,en;q=0.7", "Referer": "https://app.example.com/",
                    "Cookie": "sid=0123456789; theme=dark"}
    headers["X-Forwarded-For"] = f"{dice.choice([22, 80, 81, 84, 90, 93])}.{dice.randrange(250)}.{dice.randrange(250)}.7"
    if dice.random() < 0.4:
        headers["Authorization"] = f"Bearer {dice.choice(tokens)}"
    if dice.random() < 0.2:
        return dice.choice(["POST", "PUT"]), target, headers, b"y" * dice.choice([50, 2000, 40_000])
    return dice.choices(["GET", "HEAD", "DELETE"], [90, 5, 5])[0], target, headers, None


def client(seed, count, connect):
    dice = random.Random(seed)
    tokens = [token(f"user{i}", [["viewer"], ["admin"], []][i % 3], ["free", "pro"][i % 2]) for i in range(40)] + ["not.a.token"]
    connection = connect()
    for number in range(count):
        method, target, headers, body = one(dice, tokens)
        connection.request(method, target, body=iter([body]) if body and number % 3 == 0 else body, headers=headers,
                           encode_chunked=bool(body) and number % 3 == 0)
        connection.getresponse().read()
        if number % 60 == 59:
            connection.close()
    connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--requests", type=int, default=30_000)
    args = parser.parse_args()
    binary = str(pathlib.Path(args.binary).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="train-"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                    "-subj", "/CN=app.example.com", "-addext", "subjectAltName=DNS:app.example.com,DNS:*.apps.example.com,DNS:*.elsewhere.example",
                    "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    clear, tls = free_port(), free_port()
    configuration(folder, clear, tls, origin())
    subprocess.run([binary, "geo", "build", folder / "countries.csv", folder / "countries.mmdb"], check=True, capture_output=True)
    proxy = subprocess.Popen([binary, "run", "--config", str(folder / "portcullis.toml")], stderr=open(folder / "err", "w"))
    try:
        await_port(clear)
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        kinds = [lambda: http.client.HTTPConnection("127.0.0.1", clear), lambda: http.client.HTTPSConnection("127.0.0.1", tls, context=trust)]
        each = args.requests // 8
        workers = [threading.Thread(target=client, args=(seed, each, kinds[seed % 4 == 3])) for seed in range(8)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        curl = shutil.which("curl")
        if curl and "HTTP2" in subprocess.run([curl, "-V"], capture_output=True, text=True).stdout:
            for turn in range(20):
                subprocess.run([curl, "-sk", "--http2", "-Z", "--parallel-max", "16", "-o", "/dev/null", "-H", f"X-Forwarded-For: 81.{turn}.0.7",
                                "--connect-to", f"::127.0.0.1:{tls}", f"https://app.example.com:{tls}/api/v[1-100]/900"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        else:
            print("skipped: HTTP/2, since this curl does not speak it")
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(60)
    lines = (folder / "access.log").read_text().splitlines()
    statuses = {}
    for line in lines:
        status = json.loads(line)["http.response.status_code"]
        statuses[status] = statuses.get(status, 0) + 1
    print(f"trained with {len(lines)} requests: {dict(sorted(statuses.items()))}")
    shutil.rmtree(folder)
    if len(lines) < args.requests * 0.95:
        raise SystemExit("too few")


if __name__ == "__main__":
    main()
