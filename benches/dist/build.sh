#!/bin/sh
# The binary that we ship: fat LTO, one codegen unit, and a profile of a scripted load (train.py), so that the compiler knows
# which code is hot. Output: target/dist/portcullis. Needs python3, and the llvm-profdata whose version is rustc's
# (Debian: llvm-22 for rustc 1.95; `rustc -vV` tells).
#
#     sh benches/dist/build.sh
set -eu
cd "$(dirname "$0")/../.."
host=$(rustc -vV | sed -n 's/^host: //p')
llvm=$(rustc -vV | sed -n 's/^LLVM version: \([0-9]*\).*/\1/p')
for profdata in "llvm-profdata-$llvm" "/usr/lib/llvm-$llvm/bin/llvm-profdata" "$(rustc --print sysroot)/lib/rustlib/$host/bin/llvm-profdata" ""; do
    [ -n "$profdata" ] || { echo "no llvm-profdata of version $llvm: apt-get install llvm-$llvm" >&2; exit 2; }
    if command -v "$profdata" >/dev/null; then break; fi
done
work=$PWD/target/pgo
rm -rf "$work/raw" "$work/merged.profdata"
mkdir -p "$work/raw"

echo "1/3 build with counters"
# With --target, flags do not reach build scripts and procedural macros.
RUSTFLAGS="-Cprofile-generate=$work/raw" cargo build --locked --profile dist --all-features --target "$host" --target-dir "$work" --bin portcullis
echo "2/3 train"
python3 benches/dist/train.py "$work/$host/dist/portcullis"
"$profdata" merge -o "$work/merged.profdata" "$work/raw"
echo "3/3 build with the profile"
RUSTFLAGS="-Cprofile-use=$work/merged.profdata" cargo build --locked --profile dist --all-features --target "$host" --bin portcullis
mkdir -p target/dist
cp "target/$host/dist/portcullis" target/dist/portcullis
ls -l target/dist/portcullis
