#!/bin/sh
# SPDX-License-Identifier: MIT
# install.sh PREFIX DESTDIR: installs build/release: command, man page, completion, library, headers, pkg-config file.
set -eu
prefix=$1 destdir=$2
dir=build/release
meson configure "$dir" -Dprefix="$prefix"
ninja --quiet -C "$dir"
DESTDIR=$destdir meson install -C "$dir" --no-rebuild
# So that programs find the shared library at once; harmless where it is not allowed.
[ -n "$destdir" ] || [ "$(id -u)" -ne 0 ] || ldconfig
