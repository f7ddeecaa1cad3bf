#!/usr/bin/env bash
# The release binary as an operator runs it: real sockets, a real application behind it, curl in front.
# Usage: tests/smoke.sh PATH-TO-PORTCULLIS
set -euo pipefail
portcullis=$(realpath "$1")
work=$(mktemp -d)
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"

fail() { echo "smoke: $*" >&2; [ -f log ] && tail -5 log >&2; exit 1; }
# status WANTED ARGS...: the status that curl sees
status() {
  local want=$1 got; shift
  got=$(curl -s -o body -D head -w '%{http_code}' --max-time 10 "$@") || true
  [ "$got" = "$want" ] || fail "wanted $want, got $got: curl $*: $(head -c 300 body 2>/dev/null)"
  echo "ok $want  curl ${*: -1}"
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
await_port() {
  for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    sleep 0.1
  done
  fail "nothing listens on port $1"
}

app=$(free_port)
gate=$(free_port)
mkdir site pages
echo 'the application' > site/index.html
mkdir site/admin site/film && echo 'secret' > site/admin/index.html && echo 'film' > site/film/index.html
(cd site && exec python3 -m http.server --bind 127.0.0.1 "$app" >/dev/null 2>&1) &
pids+=($!)
await_port "$app"

cat > pages/403.html <<HTML
<!doctype html><title>No</title><h1>House page</h1><p>{{ message }}</p><p>{{ request_id }}</p>
HTML
printf 'network,country\n203.0.113.0/24,NO\n198.51.100.0/24,NL\n' > geo.csv
"$portcullis" geo build geo.csv geo.mmdb >/dev/null
cat > portcullis.toml <<TOML
[geoip]
databases = ["geo.mmdb"]
[client]
trusted_proxies = ["127.0.0.1/32"]
[admin]
socket = "admin.sock"
[access_log]
path = "access.log"
[denial]
pages = "pages"
[ip]
office = ["198.51.100.0/25"]
[[listener]]
address = "127.0.0.1:$gate"
[upstream.app]
servers = ["http://127.0.0.1:$app"]
[[site]]
host = ["*"]
upstream = "app"
[[site.route]]
path = "/**"
allow = "anyone"
[[site.route]]
path = "/film/**"
allow = "anyone"
[[site.route.deny]]
name = "licensed"
unless = [{ country = "NL" }]
status = 451
reason = "region_restricted"
[[site.route]]
path = "/admin/**"
allow = [{ ip = "@office" }]
TOML

"$portcullis" check portcullis.toml || fail "check refused a good configuration"
sed 's/country = "NL"/country = "UK"/' portcullis.toml > broken.toml
if "$portcullis" check broken.toml >broken.txt 2>&1; then fail "check accepted an unassigned country"; fi
grep -q 'broken.toml:' broken.txt || fail "check names no place: $(cat broken.txt)"

"$portcullis" run --config portcullis.toml > log 2>&1 &
pid=$!
pids+=($pid)
await_port "$gate"
url=http://127.0.0.1:$gate

status 200 "$url/"
grep -q 'the application' body || fail "the application's body did not arrive"
status 451 -H 'X-Forwarded-For: 203.0.113.9' "$url/film/"
grep -q '"error":"region_restricted"' body || fail "no JSON denial: $(cat body)"
status 200 -H 'X-Forwarded-For: 198.51.100.9' "$url/film/"
status 403 -H 'X-Forwarded-For: 203.0.113.9' -H 'Accept: text/html' "$url/admin/"
grep -q 'House page' body || fail "not our page: $(cat body)"
status 200 -H 'X-Forwarded-For: 198.51.100.9' "$url/admin/"
status 400 --path-as-is "$url/x/..%2fadmin/"
status 404 "$url/nothing-here"

# A reload changes the policy; a broken file changes nothing.
"$portcullis" status --admin admin.sock | grep -q '"generation": [1-9]' || fail "no status"
sed -i 's|ip = "@office"|ip = "203.0.113.9/32"|' portcullis.toml
"$portcullis" reload --admin admin.sock >/dev/null || "$portcullis" status --admin admin.sock
status 200 -H 'X-Forwarded-For: 203.0.113.9' "$url/admin/"
echo 'nonsense = 1' >> portcullis.toml
if "$portcullis" reload --admin admin.sock >/dev/null 2>&1; then fail "reload accepted nonsense"; fi
status 200 -H 'X-Forwarded-For: 203.0.113.9' "$url/admin/"

# Nothing listens behind it: 502, never 403.
kill "${pids[0]}"; wait "${pids[0]}" 2>/dev/null || true
status 502 "$url/"

kill -TERM $pid
wait $pid || fail "TERM did not end it well"
python3 - <<'PY'
import json
lines = [json.loads(line) for line in open("access.log")]
by_status = {}
for line in lines:
    by_status.setdefault(line["http.response.status_code"], line)
assert by_status[451]["security_rule.name"] == "licensed", by_status[451]
assert by_status[400]["response.source"] == "proxy", by_status[400]
assert by_status[502]["response.source"] == "proxy", by_status[502]
assert all(line["schema"] == 1 and line["request.id"] for line in lines)
print(f"ok {len(lines)} access-log lines, statuses {sorted(by_status)}")
PY
echo "smoke: passed"
