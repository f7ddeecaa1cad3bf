"""Each proxy with an equivalent configuration: two workers, a pool of kept-alive connections to the same origin, the same
forwarding headers, and where a scenario asks for it the same policy: 10 000 networks, one country, 20 path rules."""
import os, pathlib, shutil, signal, subprocess

from measure import await_port, descriptors, free_port

ASKED_FROM = "93.188.216.34"  # the client address that policy judges; in none of the networks, in NL


def networks(count=10_000):
    return [f"{11 + i // 65536}.{i // 256 % 256}.{i % 256}.0/24" for i in range(count)]


class Setup:
    """What a scenario asks of every proxy."""

    def __init__(self, log="off", policy=False, tls=False):
        self.log, self.policy, self.tls = log, policy, tls


class Proxy:
    def __init__(self, name, argv, port, folder, stdout=subprocess.DEVNULL, env=None):
        self.name, self.port = name, port
        self.process = subprocess.Popen(
            argv, cwd=folder, stdout=stdout, stderr=open(folder / f"{name}.err", "w"), env={**os.environ, **(env or {})})
        try:
            await_port(port)
        except SystemExit as silence:
            told = (folder / f"{name}.err").read_text().strip()[-2000:]
            self.process.kill()
            raise SystemExit(f"{name}: {silence}\n{told}")

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()


def certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,DNS:app.example.com,IP:127.0.0.1",
         "-keyout", folder / "key.pem", "-out", folder / "cert.pem"], check=True, capture_output=True)
    (folder / "both.pem").write_text((folder / "cert.pem").read_text() + (folder / "key.pem").read_text())


def geo(folder, binary):
    """One small country database, in the three forms that the proxies read."""
    table = "network,country\n" + "".join(f"{net},{'NL' if i % 2 else 'KP'}\n" for i, net in enumerate(
        f"{a}.{b}.0.0/16" for a in range(60, 120) for b in range(0, 256, 4)))
    (folder / "geo.csv").write_text(table)
    subprocess.run([binary, "geo", "build", folder / "geo.csv", folder / "geo.mmdb"], check=True, capture_output=True)
    (folder / "geo.map").write_text("".join(f"{line.replace(',', ' ')}\n" for line in table.splitlines()[1:]))
    (folder / "blocked.txt").write_text("\n".join(networks()) + "\n")


TEMP = "client_body_temp_path {0}/{1}1; proxy_temp_path {0}/{1}2; fastcgi_temp_path {0}/{1}3; uwsgi_temp_path {0}/{1}4; scgi_temp_path {0}/{1}5;"


def origin(folder, port):
    (folder / "html").mkdir()
    for name, size in (("small", 1024), ("large", 65536), ("huge", 10 << 20)):
        (folder / "html" / name).write_text("x" * size)
    (folder / "origin.conf").write_text(f"""
daemon off; worker_processes 2; pid {folder}/origin.pid; error_log /dev/null;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 100000000; sendfile on; {TEMP.format(folder, 'o')}
  server {{ listen 127.0.0.1:{port} backlog=8192; root {folder}/html; client_max_body_size 0;
    location /upload {{ proxy_pass http://127.0.0.1:{port}/small; proxy_method GET; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_set_header Connection ""; client_body_buffer_size 11m; }} }} }}
""")
    process = subprocess.Popen(["nginx", "-p", str(folder), "-c", str(folder / "origin.conf")], stderr=subprocess.DEVNULL)
    await_port(port)
    return process


def nginx(folder, upstream, setup, binary):
    port, name = free_port(), "nginx"
    log = {"off": "off", "on": f"{folder}/nginx.log", "buffered": f"{folder}/nginx.log combined buffer=64k flush=1s"}[setup.log]
    modules, maps, rules = "", "", ""
    if setup.policy:
        entries = " ".join(f"{net} 1;" for net in networks())
        module = pathlib.Path("/usr/lib/nginx/modules/ngx_http_geoip2_module.so")
        maps = f"geo $blocked {{ default 0; {entries} }}\n"
        rules = f"set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For; if ($blocked) {{ return 403; }}\n"
        if module.exists():
            modules = f"load_module {module};"
            maps += f"geoip2 {folder}/geo.mmdb {{ $country country iso_code; }} map $country $sanctioned {{ default 0; KP 1; }}\n"
            rules += "if ($sanctioned) { return 451; }\n"
        maps += "map $request_method:$uri $ruled { default 0; " + " ".join(f'"~^DELETE:/area-{i}(/|$)" 1;' for i in range(20)) + " }\n"
        rules += "if ($ruled) { return 403; }\n"
    tls = f"ssl http2; ssl_certificate {folder}/cert.pem; ssl_certificate_key {folder}/key.pem; ssl_protocols TLSv1.3; ssl_session_tickets off" if setup.tls else ""
    (folder / "nginx.conf").write_text(f"""
{modules} daemon off; worker_processes 2; pid {folder}/{name}.pid; error_log /dev/null;
events {{ worker_connections 50000; }}
http {{
  access_log {log}; keepalive_requests 100000000; client_max_body_size 0; {TEMP.format(folder, 'n')}
  {maps}
  upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} {tls.split(';')[0]} backlog=8192; {';'.join(tls.split(';')[1:]) + ';' if tls else ''}
    {rules}
    location / {{
      proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
      proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-Id $request_id;
    }}
    location /denied {{ return 403 "denied by policy, with a body of ours"; }}
  }}
}}
""")
    return Proxy(name, ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], port, folder)


def haproxy(folder, upstream, setup, binary):
    port = free_port()
    rules = ""
    if setup.policy:
        rules = "http-request set-src hdr(x-forwarded-for)\n"
        rules += f"  http-request deny deny_status 403 if {{ src -f {folder}/blocked.txt }}\n"
        rules += f"  http-request deny deny_status 403 if {{ src,map_ip({folder}/geo.map) -m str KP }}\n"
        rules += "".join(f"  http-request deny deny_status 403 if METHOD_DELETE {{ path_dir /area-{i} }}\n" for i in range(20))
    tls = f"ssl crt {folder}/both.pem alpn h2,http/1.1 ssl-min-ver TLSv1.3 no-tls-tickets" if setup.tls else ""
    log = "log stdout format raw local0\n  option httplog" if setup.log != "off" else ""
    (folder / "haproxy.cfg").write_text(f"""
global
  nbthread 2
  maxconn {(descriptors() - 1000) // 2 - 100}
  tune.ssl.cachesize 0
defaults
  mode http
  timeout client 75s
  timeout server 60s
  timeout connect 5s
  timeout http-keep-alive 75s
  {log}
frontend front
  bind 127.0.0.1:{port} {tls} backlog 8192
  acl METHOD_DELETE method DELETE
  {rules}
  http-request return status 403 content-type text/plain string "denied by policy, with a body of ours" if {{ path_beg /denied }}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  unique-id-format %[uuid()]
  http-request set-header X-Request-Id %[unique-id]
  default_backend app
backend app
  http-reuse always
  server app 127.0.0.1:{upstream} pool-max-conn 64
""")
    out = open(folder / "haproxy.log", "w")
    return Proxy("haproxy", ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], port, folder, stdout=out)


def caddy(folder, upstream, setup, binary):
    port = free_port()
    rules = ""
    if setup.policy:
        rules = f"@blocked client_ip {' '.join(networks())}\n  respond @blocked 403\n"
        for i in range(20):
            rules += f"  @rule{i} {{\n method DELETE\n path /area-{i} /area-{i}/*\n }}\n  respond @rule{i} 403\n"
    log = f"log {{\n output file {folder}/caddy.log\n }}" if setup.log != "off" else ""
    site = f"https://localhost:{port}, https://127.0.0.1:{port}, https://app.example.com:{port}" if setup.tls else f"http://:{port}"
    tls = f"tls {folder}/cert.pem {folder}/key.pem" if setup.tls else ""
    (folder / "Caddyfile").write_text(f"""
{{
  admin off
  auto_https off
  servers {{
    trusted_proxies static 127.0.0.0/8
  }}
}}
{site} {{
  {log}
  {tls}
  {rules}
  handle /denied* {{
    respond "denied by policy, with a body of ours" 403
  }}
  handle {{
    reverse_proxy 127.0.0.1:{upstream} {{
      header_up X-Request-Id {{http.request.uuid}}
      transport http {{
        keepalive_idle_conns_per_host 64
      }}
    }}
  }}
}}
""")
    env = {"GOMAXPROCS": "2", "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
    return Proxy("caddy", [real("caddy"), "run", "--config", str(folder / "Caddyfile")], port, folder, env=env)


def real(tool):
    """The program itself where what is on the path is a script that only starts it: CPU is read from the process tree."""
    found = shutil.which(tool)
    if found and found.endswith("/shims/caddy"):
        found = subprocess.run(["pyenv", "which", tool], capture_output=True, text=True).stdout.strip() or found
    return found


def portcullis(folder, upstream, setup, binary):
    port, name = free_port(), "portcullis"
    text = f"""
[server]
workers = 2
[admin]
socket = "{folder}/{name}.sock"
[server.limits]
connections = 50000
connections_per_client = 50000
[access_log]
path = "{'off' if setup.log == 'off' else folder / 'portcullis.log'}"
format = "json"
[[listener]]
address = "127.0.0.1:{port}"
{f'tls = {{ certificates = [{{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}], min_version = "1.3" }}' if setup.tls else ''}
[upstream.app]
servers = ["http://127.0.0.1:{upstream}"]
"""
    if setup.policy:
        text += f'[client]\ntrusted_proxies = ["127.0.0.0/8"]\n[geoip]\ndatabases = ["{folder}/geo.mmdb"]\n'
        text += '[ip]\nblocked = { file = "blocked.txt" }\n[[deny]]\nname = "blocked"\nip = "@blocked"\n'
        text += '[[deny]]\nname = "sanctioned"\ncountry = ["KP"]\nstatus = 451\n'
    text += '[[site]]\nhost = ["*"]\nupstream = "app"\n'
    if setup.policy:
        for i in range(20):
            text += f'[[site.deny]]\nname = "rule-{i}"\npath = "/area-{i}/**"\nmethod = "DELETE"\n'
    text += '[[site.route]]\npath = "/**"\nallow = "anyone"\n'
    text += '[[site.route]]\npath = "/denied/**"\nallow = "anyone"\n[[site.route.deny]]\nname = "denied"\nreason = "forbidden"\n'
    (folder / f"{name}.toml").write_text(text)
    return Proxy(name, [binary, "run", "--config", str(folder / f"{name}.toml")], port, folder)


PEERS = {"portcullis": portcullis, "nginx": nginx, "haproxy": haproxy, "caddy": caddy}


def present(names):
    """The peers that are installed; the others are named."""
    there = []
    for name in names:
        if name == "portcullis":
            there.append(name)
        elif shutil.which(name):
            there.append(name)
        else:
            print(f"skipped: {name} is not installed")
    return there


def versions(names, binary):
    asked = {"portcullis": [binary, "--version"], "nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"], "caddy": [real("caddy"), "version"]}
    told = {}
    for name in names:
        run = subprocess.run(asked[name], capture_output=True, text=True)
        told[name] = (run.stdout or run.stderr).strip().splitlines()[0]
    return told
