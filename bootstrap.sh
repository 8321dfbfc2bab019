#!/bin/sh
# Builds .venv from uv.lock.  Used by the Makefile:
#   ./bootstrap.sh sync        what running needs
#   ./bootstrap.sh sync dev    and what tests need
#   ./bootstrap.sh compiler PYTHON    what compiling needs (deploy/compiled/)
#   ./bootstrap.sh uv ARGS…    uv itself
# Where there is no uv, it is installed from the package index into .tools/.
set -eu
cd "$(dirname "$0")"

say() { printf '%s\n' "$*" >&2; }

# uv brings its own root certificates, and fails behind a proxy with certificates of its own;
# the system's always work.
UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-1}"
# A Python that is downloaded would come from neither the system nor the package index.
UV_PYTHON_DOWNLOADS=never
UV_PYTHON_PREFERENCE=only-system
export UV_SYSTEM_CERTS UV_PYTHON_DOWNLOADS UV_PYTHON_PREFERENCE
unset UV_PROJECT_ENVIRONMENT VIRTUAL_ENV UV_FROZEN UV_PROJECT UV_PYTHON 2>/dev/null || true

# Without a home to write to, everything stays in this folder.
if [ -z "${HOME:-}" ] || [ ! -w "${HOME:-/}" ]; then
    HOME="$PWD/.tools/home"
    mkdir -p "$HOME"
    export HOME
fi

# A Python that runs and is new enough.  A shim of pyenv may stand for one that does not.
fits() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}
executable() { "$1" -c 'import sys; print(sys.executable)'; }
# Which Python something stands on: a .venv and the Python that it was made of say the same.
stands_on() { "$1" -c 'import sys; print(sys.base_prefix, sys.version)' 2>/dev/null; }
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if fits "$PYTHON"; then executable "$PYTHON"; return 0; fi
        say "PYTHON=$PYTHON is no Python 3.11, 3.12 or 3.13 that runs."
        return 1
    fi
    at_home=
    for candidate in python3 python3.13 python3.12 python3.11 python \
        /usr/local/bin/python3 /usr/bin/python3; do
        fits "$candidate" || continue
        if [ "$(id -u)" = 0 ]; then
            # The user of a service may not enter root's home: another Python first.
            case "$(stands_on "$candidate")" in
            /root/* | "$HOME"/*)
                at_home="${at_home:-$(executable "$candidate")}"
                continue
                ;;
            esac
        fi
        executable "$candidate"
        return 0
    done
    if [ -n "$at_home" ]; then printf '%s\n' "$at_home"; return 0; fi
    say "authgate needs Python 3.11, 3.12 or 3.13, and none was found."
    if command -v apt-get >/dev/null 2>&1; then say "On Debian: apt-get install python3 python3-venv"; fi
    say "Elsewhere: install it, or name it: make PYTHON=/path/to/python3.12 …"
    return 1
}

uv_runs() { "$1" --version >/dev/null 2>&1; }
find_uv() {
    if [ -z "${AUTHGATE_OWN_UV:-}" ] && uv_runs uv; then echo uv; return 0; fi
    if uv_runs .tools/uv/bin/uv; then echo "$PWD/.tools/uv/bin/uv"; return 0; fi
    say "uv is not here: installing it into .tools/"
    python="$(find_python)" || return 1
    rm -rf .tools/uv
    if "$python" -m venv .tools/uv >/dev/null 2>&1; then
        .tools/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.8' >&2
    elif "$python" -m pip --version >/dev/null 2>&1; then
        rm -rf .tools/uv
        "$python" -m pip install --quiet --disable-pip-version-check --target .tools/uv 'uv>=0.8' >&2
    else
        rm -rf .tools/uv
        version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        say "$python has neither venv nor pip."
        say "On Debian: apt-get install python$version-venv   (or python3-venv), then once more."
        return 1
    fi
    uv_runs .tools/uv/bin/uv || { say "uv was installed but does not run"; return 1; }
    echo "$PWD/.tools/uv/bin/uv"
}

mkdir -p .tools
case "${1:-}" in
sync)
    group="${2:-run}"
    # Nothing to do when .venv was built from this very lock (the dev group holds the other).
    lock="$(cksum uv.lock pyproject.toml) $PWD"
    held="$(cat .venv/.built 2>/dev/null || true)"
    python=
    if [ -n "${PYTHON:-}" ]; then
        python="$(find_python)"
        # Another Python than the one that .venv stands on: built anew.
        if [ "$(stands_on "$python")" != "$(stands_on .venv/bin/python)" ]; then held=; fi
    elif fits .venv/bin/python; then
        # What is there goes on with its own.
        python="$(readlink -f .venv/bin/python)"
    fi
    if { [ "$held" = "$lock $group" ] || [ "$held" = "$lock dev" ]; } &&
        .venv/bin/python -c '' 2>/dev/null; then
        exit 0
    fi
    say "building .venv (once)"
    uv="$(find_uv)"
    python="${python:-$(find_python)}"
    if [ "$group" = dev ]; then groups=--group=dev; else groups=--no-dev; fi
    "$uv" sync --quiet --frozen --no-progress "$groups" --python "$python"
    printf '%s' "$lock $group" >.venv/.built
    ;;
compiler)
    # mypyc in an environment of its own, as uv.lock pins it, for the Python that is named.
    uv="$(find_uv)"
    UV_PROJECT_ENVIRONMENT="$PWD/.tools/compiler" "$uv" sync --quiet --frozen --no-progress \
        --only-group compile --no-install-project --python "$2"
    ;;
uv)
    shift
    uv="$(find_uv)"
    exec "$uv" "$@"
    ;;
*)
    say "usage: ./bootstrap.sh sync [dev] | compiler PYTHON | uv ARGS…"
    exit 2
    ;;
esac
