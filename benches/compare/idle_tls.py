#!/usr/bin/env python3
"""Resident memory for each idle TLS 1.3 connection of the real binary.

    cargo build --release && python3 benches/compare/idle_tls.py [--connections 20000] [--binary target/release/portcullis]

Every connection has shaken hands; with `asked` it has also had one answer. Both ends need a descriptor each: two client
processes share the connections, and the count is cut to what this process may open (`ulimit -n`). Sources are 127.0.0.2 and up, so
that ports do not run out. Needs python3 and openssl.
"""

import argparse
import multiprocessing
import os
import resource
import signal
import socket
import ssl
import subprocess
import tempfile
import time

CONFIG = """
[admin]
socket = "admin.sock"
[access_log]
path = "off"
[server.limits]
connections = 1000000
connections_per_client = 1000000
idle_timeout = "1h"
header_timeout = "1h"
[[listener]]
address = "127.0.0.1:{port}"
tls = {{ certificates = [{{ cert = "tls.pem", key = "tls.key" }}] }}
[[site]]
host = ["app.test"]
[[site.route]]
path = "/**"
respond = {{ status = 200, body = "hello" }}
"""


def resident(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024


def hold(number, first_source, port, asks, ready, leave):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    held = []
    for count in range(number):
        raw = socket.socket()
        raw.bind((f"127.0.0.{first_source + count // 5000}", 0))
        raw.connect(("127.0.0.1", port))
        secured = context.wrap_socket(raw, server_hostname="app.test")
        if asks:
            secured.sendall(b"GET / HTTP/1.1\r\nhost: app.test\r\n\r\n")
            answer = b""
            while b"hello" not in answer:
                answer += secured.recv(4096)
        held.append(secured)
    ready.put(number)
    leave.wait()


def measure(binary, connections, asks, pause):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-keyout", "tls.key", "-out", "tls.pem", "-subj", "/CN=app.test", "-addext", "subjectAltName=DNS:app.test"],
            cwd=folder, check=True, capture_output=True)
        with open(f"{folder}/portcullis.toml", "w") as file:
            file.write(CONFIG.format(port=port))
        proxy = subprocess.Popen([binary, "run", "--config", "portcullis.toml"], cwd=folder,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.1)
            time.sleep(1)
            before = resident(proxy.pid)
            ready, leave = multiprocessing.Queue(), multiprocessing.Event()
            began = time.monotonic()
            halves = [connections // 2, connections - connections // 2]
            clients = [multiprocessing.Process(target=hold, args=(half, 2 + 100 * number, port, asks, ready, leave))
                       for number, half in enumerate(halves)]
            for client in clients:
                client.start()
            for _ in clients:
                ready.get(timeout=120)
            took = time.monotonic() - began
            time.sleep(pause)
            files = len(os.listdir(f"/proc/{proxy.pid}/fd"))
            after = resident(proxy.pid)
            leave.set()
            for client in clients:
                client.join()
            time.sleep(3)
            ended = resident(proxy.pid)
        finally:
            proxy.send_signal(signal.SIGTERM)
            proxy.wait(timeout=60)
    each = (after - before) / connections
    print(f"{connections} idle, {'asked once' if asks else 'shaken hands only'}: {before >> 20} MiB -> {after >> 20} MiB, "
          f"{each:.0f} bytes each; {files} descriptors; opened in {took:.0f} s; {ended >> 20} MiB when all have left", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--connections", type=int, default=20000)
    arguments.add_argument("--binary", default="target/release/portcullis")
    arguments.add_argument("--pause", type=float, default=8, help="seconds between the last connection and the look")
    given = arguments.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # The proxy keeps a part of its descriptors for requests.
    connections = min(given.connections, most * 3 // 5)
    if connections < given.connections:
        print(f"`ulimit -Hn` is {most}: {connections} connections")
    binary = os.path.abspath(given.binary)
    for asks in (False, True):
        measure(binary, connections, asks, given.pause)


if __name__ == "__main__":
    main()
