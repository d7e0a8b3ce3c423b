#!/bin/sh
# make_env.sh DIR EXTRA: make the virtual environment DIR and install mjp[EXTRA] into it, versions
# pinned by constraints.txt. An environment that works is kept and brought up to date.
set -eu
env=$1
extra=$2
cd "$(dirname "$0")/.."

if ! "$env/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
    python=$(scripts/find_python.sh)
    echo "making $env with $python ($("$python" --version))"
    "$python" -m venv --clear "$env"
fi

# uv installs several times faster than pip, which is the only reason to want it: on any failure pip
# does the same work from the same files. Like pip, it is told to compile to bytecode: where Python may not
# write any (PYTHONDONTWRITEBYTECODE), every import would otherwise compile its packages anew for seconds.
uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    [ -x "$env/bin/uv" ] || "$env/bin/python" -m pip install --quiet uv || true
    [ ! -x "$env/bin/uv" ] || uv="$env/bin/uv"
fi
if [ -z "$uv" ] || ! "$uv" pip install --compile-bytecode --python "$env/bin/python" -c constraints.txt -e ".[$extra]"; then
    "$env/bin/python" -m pip install -c constraints.txt -e ".[$extra]"
fi
