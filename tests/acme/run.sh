#!/usr/bin/env bash
# Certificates from a real ACME server (pebble, of Let's Encrypt), with the real binary and curl: both challenges under a policy
# that refuses everybody (in handshakes also where clients must show a certificate), renewal of certificates that live 40 seconds, a
# hand-over, an authority that is down, one that has lost our account, one that sends garbage, one that wants an external account,
# and a restart without any authority.
#
#   tests/acme/run.sh [target/debug/portcullis]        built with `--features acme`; takes some three minutes
set -euo pipefail
cd "$(dirname "$0")/../.."
binary=${1:-target/debug/portcullis}
for tool in pebble pebble-challtestsrv openssl curl python3; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is not installed (Debian: apt install pebble openssl curl python3)"; exit 0; }
done
[ -x "$binary" ] || { echo "no binary at $binary: cargo build --features acme"; exit 1; }
binary=$(readlink -f "$binary")

work=$(mktemp -d)
declare -A running=()
stop() { local pid=${running[$1]:-}; [ -n "$pid" ] || return 0; kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done; unset "running[$1]"; }
end() { local code=$?; for name in "${!running[@]}"; do stop "$name"; done; [ "$code" = 0 ] && rm -rf "$work" || echo "logs are in $work"; exit "$code"; }
trap end EXIT
fail() { echo "FAILED: $*"; tail -n 5 "$work"/*.log; exit 1; }
says() { printf '  %s\n' "$*"; }
# Waits until a command succeeds.
until_ok() { local seconds=$1; shift; for _ in $(seq $((seconds * 5))); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done; return 1; }

read -r HTTP TLS ACME MANAGE DNS DNSAPI < <(python3 -c '
import socket
held = [socket.socket() for _ in range(6)]
for s in held: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in held))')

cd "$work"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj "/CN=test authority" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout pebble.key -out pebble.csr -subj "/CN=pebble" 2>/dev/null
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n' > san
openssl x509 -req -in pebble.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out pebble.pem 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout client.key -out client.csr -subj "/CN=client" 2>/dev/null
printf 'subjectAltName=DNS:client.test\n' > client.san
openssl x509 -req -in client.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile client.san -out client.pem 2>/dev/null

# pebble LIFE [more]
pebble_up() {
  cat > pebble.json <<JSON
{ "pebble": { "listenAddress": "127.0.0.1:$ACME", "managementListenAddress": "127.0.0.1:$MANAGE",
  "certificate": "pebble.pem", "privateKey": "pebble.key", "httpPort": $HTTP, "tlsPort": $TLS,
  "certificateValidityPeriod": $1 ${2:-} } }
JSON
  PEBBLE_VA_SLEEPTIME=2 PEBBLE_WFE_NONCEREJECT=15 pebble -config pebble.json -dnsserver "127.0.0.1:$DNS" >> pebble.log 2>&1 &
  running[pebble]=$!
  until_ok 10 curl -fsS --cacert ca.pem "https://127.0.0.1:$ACME/dir" || fail "pebble does not start"
  curl -fsS --cacert ca.pem "https://127.0.0.1:$MANAGE/roots/0" > root.pem
}
# config CHALLENGE [more of the acme table [more of the tls table]]
config() {
  cat > portcullis.toml <<TOML
[admin]
socket = "admin.sock"
[access_log]
path = "access.log"
[[listener]]
address = "127.0.0.1:$HTTP"
redirect_https = true
[[listener]]
address = "127.0.0.1:$TLS"
[listener.tls]
acme = { email = "ops@example.com", directory = "https://127.0.0.1:$ACME/dir", ca = "ca.pem", challenge = "$1", storage = "acme" ${2:-} }
${3:-}
[[deny]]
name = "nobody-passes"
unless = [{ ip = "192.0.2.1" }]
[[site]]
host = ["app.test", "www.app.test"]
allow = "anyone"
upstream = "app"
[upstream.app]
servers = ["http://127.0.0.1:9"]
TOML
  if ! "$binary" check portcullis.toml > check.log 2>&1; then
    grep -q not-in-this-build check.log && { echo "skipped: the binary has no ACME; cargo build --features acme"; exit 0; }
    cat check.log; fail "check refuses the configuration"
  fi
}
up() { "$binary" run --config portcullis.toml >> proxy.log 2>&1 & running[proxy]=$!; until_ok 10 curl -fsS --unix-socket admin.sock http://localhost/livez || fail "the proxy does not start"; }
# fetch NAME: the status over verified TLS.
fetch() { curl -sS --cacert root.pem --cert client.pem --key client.key --resolve "$1:$TLS:127.0.0.1" -o /dev/null -w '%{http_code}' "https://$1:$TLS/"; }
verified() { [ "$(fetch "$1" 2>/dev/null)" = 403 ]; }
serial() { openssl s_client -connect "127.0.0.1:$TLS" -servername "$1" -cert client.pem -key client.key </dev/null 2>/dev/null | openssl x509 -noout -serial; }
other_serial() { local now; now=$(serial "$1"); [ -n "$now" ] && [ "$now" != "$2" ]; }
process() { curl -sS --unix-socket admin.sock http://localhost/status | python3 -c 'import json, sys; print(json.load(sys.stdin)["pid"])'; }
another_process() { local now; now=$(process) && [ "$now" != "$1" ]; }
metric() { curl -sS --unix-socket admin.sock http://localhost/metrics | grep -F "$1"; }
fresh() { stop proxy; stop pebble; rm -rf acme access.log; : > proxy.log; }

pebble-challtestsrv -defaultIPv4 127.0.0.1 -defaultIPv6 "" -dns01 "127.0.0.1:$DNS" -http01 "" -https01 "" -tlsalpn01 "" -management "127.0.0.1:$DNSAPI" > dns.log 2>&1 &
running[dns]=$!

for challenge in http-01 tls-alpn-01; do
  echo "$challenge"
  fresh; pebble_up 40
  if [ "$challenge" = http-01 ]; then config "$challenge"; else config "$challenge" "" $'client_ca = "ca.pem"\nclient_certificate = "required"'; fi
  up
  if curl -skS "https://127.0.0.1:$TLS/" >/dev/null 2>&1; then fail "a handshake without a certificate"; fi
  for name in app.test www.app.test; do until_ok 60 verified "$name" || fail "no certificate for $name"; done
  says "curl verifies both names; the policy refuses: $(fetch app.test)"
  if [ "$challenge" = http-01 ]; then
    python3 - access.log <<'PY' || fail "the challenge was judged"
import json, sys
lines = [json.loads(line) for line in open(sys.argv[1])]
asked = [line for line in lines if line.get("url.path", "").startswith("/.well-known/acme-challenge/")]
assert asked and all(line["http.response.status_code"] == 200 for line in asked), asked
PY
    code=$(curl -sS -o /dev/null -w '%{http_code}' -H 'Host: app.test' "http://127.0.0.1:$HTTP/.well-known/acme-challenge/unknown")
    [ "$code" = 403 ] || fail "a token that is not pending was answered with $code"
    says "the authority was answered past policy and redirect; another token is judged: $code"
  else
    if openssl s_client -connect "127.0.0.1:$TLS" -servername app.test -alpn acme-tls/1 </dev/null 2>/dev/null | grep -q "ALPN protocol: acme-tls/1"; then fail "acme-tls/1 without a challenge"; fi
    says "clients must show a certificate, the authority need not; acme-tls/1 is not spoken when nothing is pending"
  fi
  [ -z "$(find acme -type f ! -perm 600)" ] && [ -z "$(find acme -type d ! -perm 700)" ] || fail "files that others can read"
  metric 'portcullis_tls_certificate_expiry_timestamp_seconds{' | grep -q 'name="app.test"' || fail "no expiry in the metrics"
  metric 'portcullis_acme_orders_total{name="app.test",result="issued"} 1' >/dev/null || fail "orders are not counted"

  first=$(serial app.test)
  until_ok 60 other_serial app.test "$first" || fail "not renewed"
  verified app.test || fail "the new certificate does not verify"
  says "renewed while running: $first -> $(serial app.test)"

  before=$(serial app.test); old=${running[proxy]}
  kill -USR2 "$old"
  until_ok 20 another_process "$old" || fail "no hand-over"
  wait "$old" || true
  running[proxy]=$(process)
  [ "$(serial app.test)" = "$before" ] && verified app.test || fail "the new process has another certificate"
  says "handed over to process ${running[proxy]}: the same certificate"
  # The newest certificate has its renewal before it; the authority is down then.
  stop pebble; before=$(serial app.test)
  until_ok 60 grep -q "the last good one stays" proxy.log || fail "no word about the authority being down"
  [ "$(serial app.test)" = "$before" ] && verified app.test || fail "the last good certificate is gone"
  says "authority down at renewal: the last good certificate stays"
  stop proxy; up
  [ "$(serial app.test)" = "$before" ] || fail "a restart has lost the certificate"
  says "restarted without an authority: the same certificate at once"
  # It has lost our account by its restart, and has another root.
  pebble_up 3600
  until_ok 90 verified app.test || fail "no certificate from the authority that came back"
  says "authority back, our account lost: another account, a certificate"
done

echo "external account"
fresh; pebble_up 3600 ', "externalAccountBindingRequired": true, "externalAccountMACKeys": { "kid-1": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" }'
config tls-alpn-01 ', external_account = { id = "kid-1", mac_key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W" }'; up
until_ok 60 verified app.test || fail "no certificate with an external account"
says "a certificate"

echo "garbage for a directory"
fresh; config http-01
python3 - "$ACME" > garbage.log 2>&1 <<'PY' &
import http.server, ssl, sys
class Garbage(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked", flush=True)
        body = b'{"newNonce": "not a URL", "newAccount": 7}'
        self.send_response(200); self.send_header("content-length", str(len(body))); self.end_headers(); self.wfile.write(body)
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Garbage)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); context.load_cert_chain("pebble.pem", "pebble.key")
server.socket = context.wrap_socket(server.socket, server_side=True); server.serve_forever()
PY
running[garbage]=$!
until_ok 10 curl -fsS --cacert ca.pem "https://127.0.0.1:$ACME/dir"
up
until_ok 20 grep -q "is no ACME directory" proxy.log || fail "garbage was taken for a directory"
sleep 5
asked=$(grep -c '^asked' garbage.log)
[ "$asked" -le 3 ] || fail "asked $asked times in five seconds"
says "refused; asked once for each name, and next in a minute"
echo "all good"
