#!/bin/sh
# SPDX-License-Identifier: MIT
# check_globals.sh LIBRARY.a: no object of the library holds data that can be written. Mutable globals are the hidden
# contract that makes a library unfit for threads; constants, relocated ones included, are fine.
set -eu
found=$(size -A "$1" | awk '
    /:$/ || / +\(ex / { object = $1 }
    ($1 ~ /^\.(data|bss|tdata|tbss)(\.|$)/) && $1 !~ /^\.data\.rel\.ro/ && $2 > 0 { print object ": " $2 " bytes in " $1 }')
[ -z "$found" ] || { printf '%s\n' "$found"; exit 1; }
echo "no mutable globals"
