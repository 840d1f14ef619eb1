#!/bin/sh
# SPDX-License-Identifier: MIT
# What `make install` leaves is enough for a user: the command runs, and a program finds the library by pkg-config,
# shared and static.
set -eu
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
DESTDIR=$place meson install -C build/test --no-rebuild --quiet
root=$place/usr/local
for file in bin/tensorport share/man/man1/tensorport.1 share/bash-completion/completions/tensorport \
    include/tensorport/tensorport.h; do
    [ -s "$root/$file" ] || { echo "not installed: $file"; exit 1; }
done
"$root/bin/tensorport" --version

PKG_CONFIG_PATH=$(dirname "$(find "$root" -name tensorport.pc)")
export PKG_CONFIG_PATH
flags="--define-variable=prefix=$root"
# shellcheck disable=SC2046 # lists of flags
cc -std=c11 -o "$place/shared" examples/list_tensors.c $(pkg-config "$flags" --cflags --libs tensorport)
LD_LIBRARY_PATH=$(dirname "$(find "$root" -name libtensorport.so)") "$place/shared" --help >/dev/null 2>&1 || [ $? -lt 126 ]
# shellcheck disable=SC2046
cc -std=c11 -o "$place/static" examples/list_tensors.c $(pkg-config "$flags" --cflags tensorport) \
    "$(find "$root" -name libtensorport.a)" $(pkg-config "$flags" --libs-only-l --static tensorport | sed 's/-ltensorport//')
"$place/static" --help >/dev/null 2>&1 || [ $? -lt 126 ]
echo "the installed library links, shared and static"
