#!/bin/sh
# SPDX-License-Identifier: MIT
# old_orbax.sh: makes build/orbax-VERSION, an environment for each old release of Orbax that the long tier restores
# with. Where one cannot be made, build/orbax-VERSION/missing says why, and the tests that need it are skipped with it.
set -u
cd "$(dirname "$0")/.." || exit 1

# Release | what it was used with in its time
releases()
{
    cat <<'END'
0.5.23|jax==0.4.30 jaxlib==0.4.30 tensorstore==0.1.65 numpy==1.26.4 ml_dtypes==0.5.4
0.6.4|jax==0.4.34 jaxlib==0.4.34 tensorstore==0.1.68 numpy==2.1.3 ml_dtypes==0.5.4
0.11.25|jax==0.6.2 jaxlib==0.6.2 tensorstore==0.1.78 numpy==2.2.6 ml_dtypes==0.5.4
END
}

# The wheels of that time are for these Pythons.
find_python()
{
    for python in python3.11 python3.12 python3.10 python3; do
        "$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' 2>/dev/null &&
            return
    done
    return 1
}

# make_one RELEASE PIN...
make_one()
{
    release=$1
    folder=build/orbax-$1
    shift
    rm -rf "$folder"
    if ! find_python; then
        mkdir -p "$folder"
        echo "its packages need Python 3.10, 3.11 or 3.12" >"$folder/missing"
    elif ! { "$python" -m venv "$folder" && sh tools/quiet.sh "installing Orbax $release into $folder" \
        "orbax-$release" "$folder/bin/python" -m pip --disable-pip-version-check --no-input install \
        "orbax-checkpoint==$release" "$@"; }; then
        echo "pip could not install it and what it was used with ($*)" >"$folder/missing"
    fi
    touch "$folder/.complete"
}

mkdir -p build
releases | while IFS='|' read -r release pins; do
    # shellcheck disable=SC2086 # a list of words
    [ -e "build/orbax-$release/.complete" ] || make_one "$release" $pins </dev/null
    [ ! -e "build/orbax-$release/missing" ] ||
        printf 'Orbax %s will not be tested: %s\n' "$release" "$(cat "build/orbax-$release/missing")"
done
