#!/usr/bin/env bash
# Builds the program for Linux on x86-64 as one static file that needs no system library, and packs it. It is without the
# feature `gpu`: a static program cannot load Vulkan's driver, a shared library. Linked dynamically against musl it could not
# either on most machines, whose drivers are for glibc; a build on them by cargo can.
#
#     tools/release.sh FOLDER
#
# Writes cifar-engine-VERSION-x86_64-linux-musl.tar.gz and its .sha256 into FOLDER. Needs musl-gcc (Debian's musl-tools)
# and Rust's target, which rustup adds.
set -euo pipefail
out=$(realpath -e "${1:?usage: tools/release.sh FOLDER}")
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-musl

command -v musl-gcc > /dev/null || { echo "there is no musl-gcc; install musl-tools" >&2; exit 1; }
rustup target add "$target"

cargo build --profile dist --locked --target "$target" --no-default-features --features cli --bin cifar-engine

program=${CARGO_TARGET_DIR:-target}/$target/dist/cifar-engine
strip "$program" # what Rust's own linker for this target leaves

version=$(cargo metadata --no-deps --format-version 1 | grep -o '"name":"cifar-engine","version":"[^"]*' | cut -d'"' -f8)
name=cifar-engine-$version-x86_64-linux-musl
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/$name"
cp -r "$program" README.md docs LICENSE "$work/$name"
# Neither times nor owners, so that the same program gives the same file.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$work" -c "$name" | gzip -9n > "$out/$name.tar.gz"
cd "$out"
sha256sum "$name.tar.gz" | tee "$name.tar.gz.sha256"
