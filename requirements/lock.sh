#!/bin/sh
# Write the hash-pinned requirement files anew from the *.in files beside this script.
#
# Needs `uv` on the PATH. Pins already in the *.txt files are kept where they still fit; `lock.sh --upgrade`
# takes newer ones. Each file covers every Python from 3.11 to 3.13 and holds the hashes of all wheels and the
# sdist of a version, so that one set of files serves x86-64 and ARM alike. No file names a package registry.
set -eu
cd -- "$(dirname -- "$0")"

lock() {
    name=$1
    shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
        --no-emit-index-url --no-emit-find-links "$@" "$name.in" -o "$name.txt"
    # An exact version must stand in each line; whoever reads the diff sees what changed and nothing else.
    echo "locked $name.txt: $(grep -c '==' "$name.txt") packages"
}

lock build "$@"
rm -f engine-simd.txt # uv cannot read build settings
lock engine-simd "$@"
# How pillow-simd is to be built. Left to itself the build passes without a word over a library that is not there:
# "enable" makes it fail instead. libimagequant is GPL and must not get in; AVIF comes from the plugin, newer than what
# distributions have; the rest is for formats that imgpro refuses, and code that is not there has no bugs.
{
    sed -n 1p engine-simd.txt
    for setting in zlib=enable jpeg=enable webp=enable lcms=enable \
        imagequant=disable avif=disable raqm=disable freetype=disable xcb=disable tiff=disable jpeg2000=disable; do
        printf '    --config-settings=%s \\\n' "$setting"
    done
    sed 1d engine-simd.txt
} >engine-simd.new
mv engine-simd.new engine-simd.txt
lock engine-pillow "$@"
# The plugins ask for Pillow; which one is installed is decided by `run`, so none is named here.
lock runtime --no-emit-package pillow "$@"
lock dev -c runtime.txt "$@"
# What freezes the program into one executable (`./run build`).
lock pack "$@"

# A peer of `./run bench`; it lives in an environment of its own.
cd ../bench
lock thumbor "$@"
