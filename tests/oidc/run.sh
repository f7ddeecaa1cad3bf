#!/usr/bin/env bash
# A login as people do it: a headless Chromium, a certified provider (the npm package `oidc-provider`), the gate between them,
# all over https on loopback.
#
#   tests/oidc/run.sh PATH-TO-PORTCULLIS
#
# Needs node 20, npm and chromium (or CHROMIUM=…). Where one of them is missing, or the registry cannot be reached, it says so
# and passes: the same flows are tested against a provider of the tests' own by `cargo test --test it oidc`.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
gate="$(realpath "${1:?usage: tests/oidc/run.sh PATH-TO-PORTCULLIS}")"

skip() { echo "oidc: skipped: $*"; exit 0; }

command -v node >/dev/null || skip "there is no node"
command -v npm >/dev/null || skip "there is no npm"
command -v openssl >/dev/null || skip "there is no openssl"
browser="${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}"
[ -n "$browser" ] || skip "there is no chromium"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cp "$here"/package.json "$here"/*.mjs "$work"/
cd "$work"
npm install --no-audit --no-fund --ignore-scripts --silent >npm.log 2>&1 \
  || skip "the packages cannot be installed: $(grep -m1 . npm.log || echo 'no reason given')"

# An authority of our own, and a certificate for both sides.
ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${ec[@]}" -days 2 -subj '/CN=test authority' -keyout ca.key -out ca.pem 2>/dev/null
openssl req "${ec[@]}" -subj /CN=localhost -keyout key.pem -out leaf.csr 2>/dev/null
openssl x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -days 2 -out cert.pem \
  -extfile <(printf 'subjectAltName=DNS:localhost,DNS:app.example.test\nbasicConstraints=CA:FALSE') 2>/dev/null
openssl rand -base64 32 >session.key
CHROMIUM="$browser" node run.mjs "$gate"
