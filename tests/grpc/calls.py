"""Calls of every kind through Portcullis, by grpcio. Messages are plain bytes: no generated code is needed."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc

BIG = 4 * 1024 * 1024 - 1024
OPTIONS = [("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20)]
cancelled = threading.Event()


def echo(message, context):
    seen = dict(context.invocation_metadata())
    context.set_trailing_metadata((("x-seen", seen.get("x-call", "")), ("x-client", seen.get("x-forwarded-for", ""))))
    return message


def fail(message, context):
    context.set_trailing_metadata((("x-detail", "kept"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now: 100 % sure, naïve")


def slow(message, context):
    time.sleep(5)
    return message


def count(message, context):
    for number in range(int(message)):
        yield b"%d" % number


def words(message, context):
    """A word at a time, each only when the client must have the one before."""
    for word in (b"one", b"two", b"three"):
        yield word
        time.sleep(0.2)


def endless(message, context):
    context.add_callback(cancelled.set)
    while context.is_active():
        yield b"x"
        time.sleep(0.02)


def total(messages, context):
    return b"%d" % sum(len(message) for message in messages)


def chat(messages, context):
    for message in messages:
        yield b"you said " + message


class Handlers(grpc.GenericRpcHandler):
    KINDS = {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "Staff": grpc.unary_unary_rpc_method_handler(echo),
        "Member": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Words": grpc.unary_stream_rpc_method_handler(words),
        "Endless": grpc.unary_stream_rpc_method_handler(endless),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
    }

    def service(self, details):
        return self.KINDS.get(details.method.removeprefix("/shop.Cart/"))


def status(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code(), error.details(), {key: value for key, value in error.trailing_metadata() or ()}
    return grpc.StatusCode.OK, "", {}


passed = 0


def check(name, condition, *said):
    global passed
    if not condition:
        sys.exit(f"grpc: FAILED {name}: {said}")
    passed += 1
    print(f"ok {name}")


def calls(channel, title):
    method = lambda kind, name: getattr(channel, kind)(f"/shop.Cart/{name}")
    unary, stream = "unary_unary", "unary_stream"

    answer, call = method(unary, "Echo").with_call(b"hello", metadata=[("x-call", "7")], timeout=10)
    trailers = dict(call.trailing_metadata())
    check(f"{title}: unary", answer == b"hello" and call.code() == grpc.StatusCode.OK)
    check(f"{title}: metadata both ways", trailers["x-seen"] == "7" and trailers["x-client"] == "127.0.0.1", trailers)
    check(f"{title}: an empty message", method(unary, "Echo")(b"", timeout=10) == b"")
    big = os.urandom(BIG)
    check(f"{title}: 4 MB there and back", method(unary, "Echo")(big, timeout=30) == big)

    code, details, trailers = status(lambda: method(unary, "Fail")(b"", timeout=10))
    check(f"{title}: an error in trailers", code == grpc.StatusCode.FAILED_PRECONDITION, code, details)
    check(f"{title}: its words", details == "not now: 100 % sure, naïve", details)
    check(f"{title}: its metadata", trailers.get("x-detail") == "kept", trailers)
    code, *said = status(lambda: method(unary, "Nothing")(b"", timeout=10))
    check(f"{title}: no such method", code == grpc.StatusCode.UNIMPLEMENTED, code, said)

    began = time.monotonic()
    code, *said = status(lambda: method(unary, "Slow")(b"", timeout=0.5))
    check(f"{title}: a deadline", code == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - began < 3, code, said)

    got = list(method(stream, "Count")(b"1000", timeout=30))
    check(f"{title}: server stream", got == [b"%d" % number for number in range(1000)], len(got))
    arrived = []
    began = time.monotonic()
    for word in method(stream, "Words")(b"", timeout=10):
        arrived.append(time.monotonic() - began)
    check(f"{title}: nothing of a stream is held back", len(arrived) == 3 and arrived[0] < arrived[2] - 0.3, arrived)
    cancelled.clear()
    endless = method(stream, "Endless")(b"", timeout=30)
    next(endless)
    endless.cancel()
    check(f"{title}: cancelling reaches the server", cancelled.wait(10))

    sent = (b"x" * 1000 for _ in range(500))
    check(f"{title}: client stream", method("stream_unary", "Total")(sent, timeout=30) == b"500000")
    told, turn = [], threading.Semaphore(1)

    def talk():
        for number in range(20):
            turn.acquire()
            yield b"%d" % number

    for answer in method("stream_stream", "Chat")(talk(), timeout=30):
        told.append(answer)
        turn.release()
    check(f"{title}: bidirectional, by turns", told == [b"you said %d" % number for number in range(20)], told)

    with futures.ThreadPoolExecutor(32) as pool:
        many = list(pool.map(lambda number: method(unary, "Echo")(b"%d" % number, timeout=30), range(300)))
    check(f"{title}: many at once", many == [b"%d" % number for number in range(300)])


def refusals(channel):
    method = lambda name: channel.unary_unary(f"/shop.Cart/{name}")
    code, details, trailers = status(lambda: method("Staff")(b"", timeout=10))
    check("denied: PERMISSION_DENIED", code == grpc.StatusCode.PERMISSION_DENIED, code, details)
    check("denied: with our words and the request's id", details == "Staff only" and trailers.get("x-request-id"), details, trailers)
    code, details, _ = status(lambda: method("Member")(b"", timeout=10))
    check("not signed in: UNAUTHENTICATED", code == grpc.StatusCode.UNAUTHENTICATED, code, details)
    code, details, _ = status(lambda: channel.unary_unary("/down.Service/Call")(b"", timeout=10))
    check("nobody there: UNAVAILABLE", code == grpc.StatusCode.UNAVAILABLE, code, details)


def main(portcullis):
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()
    for more in (
        "-subj /CN=ca -keyout ca.key -out ca.pem",
        "-subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        " -CA ca.pem -CAkey ca.key -keyout key.pem -out cert.pem",
    ):
        subprocess.run(made + more.split(), check=True, stderr=subprocess.DEVNULL)
    authority, cert, key = (open(name, "rb").read() for name in ("ca.pem", "cert.pem", "key.pem"))
    server = grpc.server(futures.ThreadPoolExecutor(64), handlers=[Handlers()], options=OPTIONS)
    clear = server.add_insecure_port("127.0.0.1:0")
    secret = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
    server.start()
    import socket

    def free():
        with socket.socket() as it:
            it.bind(("127.0.0.1", 0))
            return it.getsockname()[1]

    gate, nobody = free(), free()
    site = lambda host, upstream: f"""
[[site]]
host = ["{host}"]
upstream = "{upstream}"
identity = ["keys"]
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/shop.Cart/Staff"
allow = [{{ ip = "192.0.2.1" }}]
otherwise = {{ message = "Staff only" }}
[[site.route]]
path = "/shop.Cart/Member"
allow = [{{ auth = "any" }}]
[[site.route]]
path = "/down.Service/**"
upstream = "nobody"
allow = "anyone"
"""
    open("keys.toml", "w").write("")
    open("secret", "w").write("x" * 40)
    config = f"""
[admin]
socket = "admin.sock"
[access_log]
path = "access.log"
[[listener]]
address = "127.0.0.1:{gate}"
tls = {{ certificates = [{{ cert = "cert.pem", key = "key.pem" }}] }}
[identity.keys]
jwt = {{ issuer = "https://id.example.com/", audience = "app", secret = "${{file:secret}}", algorithms = ["HS256"] }}
[upstream.clear]
servers = ["http://127.0.0.1:{clear}"]
protocol = "h2c"
[upstream.secret]
servers = ["https://localhost:{secret}"]
protocol = "auto"
tls = {{ ca = "ca.pem" }}
[upstream.nobody]
servers = ["http://127.0.0.1:{nobody}"]
protocol = "h2c"
{site("clear.test", "clear")}{site("secret.test", "secret")}"""
    # The certificate names localhost; sites go by the authority of each call.
    config = config.replace('host = ["clear.test"]', 'host = ["localhost"]')
    open("portcullis.toml", "w").write(config)
    process = subprocess.Popen([portcullis, "run", "--config", "portcullis.toml"], stderr=open("log", "w"))
    try:
        credentials = grpc.ssl_channel_credentials(authority)
        with grpc.secure_channel(f"localhost:{gate}", credentials, OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(20)
            calls(channel, "h2c")
            refusals(channel)
        swapped = config.replace('upstream = "clear"', 'upstream = "secret"')
        open("portcullis.toml", "w").write(swapped)
        subprocess.run([portcullis, "reload", "--admin", "admin.sock"], check=True, stdout=subprocess.DEVNULL)
        with grpc.secure_channel(f"localhost:{gate}", credentials, OPTIONS) as channel:
            grpc.channel_ready_future(channel).result(20)
            calls(channel, "auto")
    except BaseException:
        print(open("log").read()[-2000:], file=sys.stderr)
        raise
    finally:
        process.terminate()
        process.wait(20)
        server.stop(0)
    print(f"grpc: {passed} checks passed (grpcio {grpc.__version__})")


main(sys.argv[1])
