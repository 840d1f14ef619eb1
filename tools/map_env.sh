#!/bin/sh
# SPDX-License-Identifier: MIT
# map_env.sh [maxtext] [tunix]: makes build/maps-NAME, an environment with the project whose own converter the maps of
# that name are compared with (the long tier; tests/maps). Where one cannot be made, build/maps-NAME/missing says why,
# and the tests that need it are skipped with it. What is installed: tools/requirements-maps-NAME.txt, every version
# pinned. No torch: the converters do without it.
set -u
cd "$(dirname "$0")/.." || exit 1

# The first Python of the versions that the pinned packages have wheels for; also those that pyenv keeps.
find_python()
{
    for version in "$@"; do
        for python in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$version".*/bin/python; do
            "$python" -c "import ensurepip, sys, venv; sys.exit('%d.%d' % sys.version_info[:2] != '$version')" \
                2>/dev/null && return
        done
    done
    return 1
}

# make_one NAME VERSION... (of Python, the best first)
make_one()
{
    name=$1
    folder=build/maps-$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder"
    if ! find_python "$@"; then
        echo "its packages need Python $*" >"$folder/missing"
    elif ! { "$python" -m venv "$folder" && sh tools/quiet.sh "installing $name into $folder" "maps-$name" \
        "$folder/bin/python" -m pip --disable-pip-version-check --no-input install \
        -r "tools/requirements-maps-$name.txt"; }; then
        echo "pip could not install tools/requirements-maps-$name.txt" >"$folder/missing"
    fi
    cksum <"tools/requirements-maps-$name.txt" >"$folder/.complete"
}

mkdir -p build
for name in "${@:-maxtext}" $([ "$#" -gt 0 ] || echo tunix); do
    case $name in
        maxtext) versions="3.12" ;;
        tunix) versions="3.11 3.12" ;;
        *)
            echo "map_env.sh: unknown environment: $name" >&2
            exit 1
            ;;
    esac
    # shellcheck disable=SC2086 # a list of words
    [ "$(cat "build/maps-$name/.complete" 2>/dev/null)" = "$(cksum <"tools/requirements-maps-$name.txt")" ] ||
        make_one "$name" $versions </dev/null
    [ ! -e "build/maps-$name/missing" ] ||
        printf 'Maps for %s will not be compared with it: %s\n' "$name" "$(cat "build/maps-$name/missing")"
done
