#!/bin/sh
# SPDX-License-Identifier: MIT
# Builds the kernel test (or, with PROGRAM=, another of the kernel programs) without Meson, each CPU level with its own
# flags: for a machine that has only a compiler, and for cross builds.
#
#   sh tests/kernels/build.sh OUTPUT [extra flags]      CC, CFLAGS and PROGRAM may be set
#
# Where the target has no xxhash.h (a cross compiler), that of this machine will do: it is one portable file.
set -eu
output=$1
shift
root=$(cd "$(dirname "$0")/../.." && pwd)
cc=${CC:-gcc}
program=${PROGRAM:-tests/kernels/test_kernels.c tests/kernels/arithmetic.c tests/kernels/inputs.c tests/kernels/outside.c}
objects=$(mktemp -d)
trap 'rm -rf "$objects"' EXIT

cd "$root"
common="-std=c11 -O2 -ffp-contract=off -Isrc -Iinclude ${CFLAGS:-}"
if ! echo '#include <xxhash.h>' | "$cc" -E - >/dev/null 2>&1; then
    mkdir "$objects/include"
    cp /usr/include/xxhash.h "$objects/include/"
    common="$common -isystem $objects/include"
fi

# compile SOURCE FLAGS...
compile()
{
    source=$1
    shift
    # shellcheck disable=SC2086
    "$cc" $common "$@" -c "$source" -o "$objects/$(echo "$source" | tr / _).o"
}

avx2='-mavx2 -mf16c -mbmi2'
case $("$cc" -dumpmachine) in
x86_64*)
    levels=-DTP_HAVE_X86
    # shellcheck disable=SC2086
    compile src/kernels/x86/avx2.c $avx2
    # shellcheck disable=SC2086
    compile src/kernels/x86/avx2_arithmetic.c $avx2
    # shellcheck disable=SC2086
    compile src/kernels/x86/avx2_codes.c $avx2
    # shellcheck disable=SC2086
    compile src/kernels/x86/avx512.c $avx2 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd
    ;;
aarch64*)
    levels=-DTP_HAVE_NEON
    compile src/kernels/arm/neon.c
    compile src/kernels/arm/neon_arithmetic.c
    ;;
*)
    levels=
    ;;
esac
compile src/kernels/arithmetic.c -fno-tree-vectorize
compile src/kernels/scalar.c -fno-tree-vectorize
# shellcheck disable=SC2086
compile src/kernels/init.c $levels
compile src/kernels/blocks.c
compile src/kernels/tally.c
compile src/os/cpu.c
for source in $program; do
    compile "$source"
done
# shellcheck disable=SC2086
"$cc" ${CFLAGS:-} "$@" "$objects"/*.o -o "$output" -pthread -lm
