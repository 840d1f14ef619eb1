#!/bin/sh
# SPDX-License-Identifier: MIT
# Every public header compiles alone, as C11 and as C++17, without a warning: its users include it in any order.
set -eu
flags="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wundef -Wcast-qual -Werror -fsyntax-only -Iinclude"
for header in include/tensorport/*.h; do
    line="#include <tensorport/$(basename "$header")>"
    # shellcheck disable=SC2086 # a list of flags
    printf '%s\n' "$line" | cc -std=c11 $flags -x c -
    # shellcheck disable=SC2086
    printf '%s\n' "$line" | c++ -std=c++17 $flags -x c++ -
done
echo "$(ls include/tensorport/*.h | wc -l) headers compile alone"
