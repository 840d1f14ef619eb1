#!/bin/sh
# SPDX-License-Identifier: MIT
# check_exports.sh LIBRARY.so: what it exports is what tests/exports.txt lists. A symbol that slips out is a promise
# that nobody meant to make; one that vanishes breaks programs. After a change that is meant: check_exports.sh LIB --update
set -eu
exported=$(nm -D --defined-only "$1" | awk '{print $3}' | LC_ALL=C sort)
if [ "${2-}" = --update ]; then
    printf '%s\n' "$exported" >tests/exports.txt
fi
printf '%s\n' "$exported" | diff -u tests/exports.txt - && echo "$(wc -l <tests/exports.txt) symbols, as listed"
