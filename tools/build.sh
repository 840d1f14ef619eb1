#!/bin/sh
# SPDX-License-Identifier: MIT
# build.sh KIND [TARGET...]: configures build/KIND if it is new, and builds it.
set -eu
kind=$1
shift
case $kind in
    release) cc=cc options= ;;                                                  # what users get
    test) cc=cc options="-Dbuildtype=debugoptimized -Dwerror=true -Dtests=true" ;; # assertions, warnings are errors
    asan) cc=cc options="-Dbuildtype=debugoptimized -Dwerror=true -Dtests=true -Db_sanitize=address,undefined" ;;
    clang) cc=clang options="-Dbuildtype=debugoptimized -Dwerror=true -Dtests=true" ;;
    tsan) cc=clang options="-Dbuildtype=debugoptimized -Dtests=true -Db_sanitize=thread -Db_lundef=false" ;;
    fuzz) cc=clang options="-Dbuildtype=debugoptimized -Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false" ;;
    coverage) cc=clang options="-Dbuildtype=debugoptimized -Dtests=true -Dcoverage=true" ;; # llvm-cov reads it
    *) echo "build.sh: unknown kind: $kind" >&2; exit 2 ;;
esac
dir=build/$kind
if [ ! -e "$dir/build.ninja" ]; then
    # shellcheck disable=SC2086 # a list of words
    CC=${CC:-$cc} sh tools/quiet.sh "configuring $dir" "configure-$kind" meson setup "$dir" $options
fi
sh tools/quiet.sh "building $dir" "build-$kind" ninja --quiet -C "$dir" "$@"
