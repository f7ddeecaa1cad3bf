#!/usr/bin/env bash
# gRPC as its own library speaks it, through the real binary: TLS and HTTP/2 in front, HTTP/2 in clear text or by ALPN behind.
# Usage: tests/grpc/run.sh PATH-TO-PORTCULLIS        (PYTHON=… chooses a Python that has grpcio: `pip install grpcio`)
set -euo pipefail
portcullis=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
python=${PYTHON:-python3}
if ! "$python" -c 'import grpc' 2>/dev/null; then
  echo "grpc: skipped, $python has no grpcio (pip install grpcio, or PYTHON=…)"
  exit 0
fi
if ! command -v openssl >/dev/null; then
  echo "grpc: skipped, there is no openssl to make a certificate with"
  exit 0
fi
exec "$python" "$here/calls.py" "$portcullis"
