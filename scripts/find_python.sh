#!/bin/sh
# Print the path of a Python >= 3.12 that can make a virtual environment, or say why there is none.
#
# Every candidate is run before it is believed. A pyenv puts a shim named python3.12 on PATH for each
# version it has ever installed, and such a shim fails when that version is not the active one; for the
# same reason pyenv's own folder of versions is searched as well.
#
# PYTHON=/path/to/python overrides the search.

usable='
import sys
if sys.version_info < (3, 12):
    sys.exit("is Python %d.%d" % sys.version_info[:2])
try:
    import ensurepip, venv
except ImportError as error:
    sys.exit("has no venv module (%s); on Debian and Ubuntu it is in the package python3-venv" % error)
import sysconfig
if sysconfig.get_config_var("Py_GIL_DISABLED"):
    sys.exit("is a free-threaded build, for which not every dependency has wheels")
# The interpreter itself, not a shim or the environment it was started from.
print(getattr(sys, "_base_executable", None) or sys.executable)
'
seen=""

try() {
    command -v "$1" >/dev/null 2>&1 || return 0
    # stderr is kept, as the reason for a refusal; -I keeps PYTHONPATH and the working directory out
    if found=$("$1" -I -W ignore -c "$usable" 2>&1) && [ -x "$found" ]; then
        printf '%s\n' "$found"
        exit 0
    fi
    seen="$seen
  $1: $(printf '%s\n' "$found" | sed -n '/./{p;q;}')"
}

if [ -n "$PYTHON" ]; then
    try "$PYTHON"
    echo "PYTHON=$PYTHON cannot be used.${seen:-
  $PYTHON: not found}" >&2
    exit 1
fi

versions=""
if [ -n "$PYENV_ROOT" ]; then
    versions="$PYENV_ROOT/versions"
elif command -v pyenv >/dev/null 2>&1; then
    versions="$(pyenv root 2>/dev/null)/versions"
elif [ -d "$HOME/.pyenv/versions" ]; then
    versions="$HOME/.pyenv/versions"
fi

# 3.12 first: constraints.txt is resolved for it.
for version in 3.12 3.13 3.14; do
    try "python$version"
    for candidate in "$versions/$version"/bin/python "$versions/$version".*/bin/python; do
        try "$candidate"
    done
done
for candidate in python3 python "$versions"/*/bin/python; do
    try "$candidate"
done
if command -v uv >/dev/null 2>&1; then
    candidate=$(uv python find --no-project --no-python-downloads '>=3.12' 2>/dev/null) && try "$candidate"
fi

cat >&2 <<MESSAGE
mjp needs Python 3.12 or later, and none was found on PATH or in a pyenv.
Looked at:${seen:- nothing that can be run as python}
Install one (for example \`pyenv install 3.12\`, or your system's python3.12 and python3.12-venv),
or name one: make setup PYTHON=/path/to/python3.12
MESSAGE
exit 1
