#!/bin/sh
# SPDX-License-Identifier: MIT
# C files look as clang-format 14 would write them (other versions differ in details), so that no review is about
# spaces. check_format.sh --fix rewrites them. CLANG_FORMAT names another program than the one in build/venv.
set -eu
program=${CLANG_FORMAT:-build/venv/bin/clang-format}
mode="--dry-run --Werror"
[ "${1-}" != --fix ] || mode=-i
# shellcheck disable=SC2086 # a list of options
find include src cli examples bench tests fuzz -name '*.[ch]' 2>/dev/null | LC_ALL=C sort | xargs "$program" $mode
