#!/usr/bin/env python3
"""User instructions per proxied request, counted by callgrind: repeatable where times on a shared machine are not.

One kept-alive client, one worker, JSON access log, nginx as the origin. Two runs of different length are subtracted, so start
and end cancel out. Needs valgrind and nginx (Debian packages). Standard library only.

    python3 benches/compare/instructions.py [--binary target/release/portcullis] [--path /small|/large]
"""
import argparse, http.client, pathlib, re, signal, subprocess, tempfile

from measure import await_port, free_port
from proxies import origin

HEADERS = {"User-Agent": "Mozilla/5.0", "Accept": "*/*", "Accept-Language": "en"}


def total(binary, folder, upstream, path, requests):
    """Instructions of the whole process, from start to end."""
    port, out = free_port(), folder / f"callgrind.{requests}"
    # Nothing but the config stands in the watched folder: every other write there would cost the proxy a look.
    (folder / "etc").mkdir(exist_ok=True)
    conf = folder / "etc" / "gate.toml"
    conf.write_text(f"""
[server]
workers = 1
[admin]
socket = "{folder}/gate.sock"
[access_log]
path = "{folder}/gate.log"
format = "json"
[[listener]]
address = "127.0.0.1:{port}"
[upstream.app]
servers = ["http://127.0.0.1:{upstream}"]
[[site]]
host = ["*"]
upstream = "app"
[[site.route]]
path = "/**"
allow = "anyone"
""")
    argv = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", binary, "run", "--config", str(conf)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await_port(port)
    client = http.client.HTTPConnection("127.0.0.1", port)
    for _ in range(requests):
        client.request("GET", path, headers=HEADERS)
        response = client.getresponse()
        response.read()
        assert response.status == 200, response.status
    client.close()
    process.send_signal(signal.SIGTERM)
    process.wait()
    return int(re.search(r"^(?:summary|totals): (\d+)", out.read_text(errors="replace"), re.M)[1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binary", default="target/release/portcullis")
    parser.add_argument("--path", default="/small")
    args = parser.parse_args()
    binary = str(pathlib.Path(args.binary).resolve())
    folder = pathlib.Path(tempfile.mkdtemp(prefix="instructions-"))
    folder.chmod(0o755)
    upstream = free_port()
    app = origin(folder, upstream)
    try:
        few, many = (total(binary, folder, upstream, args.path, requests) for requests in (300, 1300))
        print(f"{args.path}: {(many - few) / 1000:.0f} instructions per request; callgrind_annotate {folder}/callgrind.1300")
    finally:
        app.terminate()


if __name__ == "__main__":
    main()
