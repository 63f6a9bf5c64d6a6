#!/usr/bin/env bash
# Prints the path of a virtual environment with the packages of requirements.txt.
#
#     env=$(bash tests/conformance/env.sh) && "$env/bin/python" …
#
# It lies in the user's cache folder under the hash of its pins, is made at the first call (about
# a minute and 1.6 GB) and found again by the later ones. It appears whole or not at all: it is
# made beside its place, tried, and renamed. `PYTHON` names the interpreter (3.11 to 3.14; found by
# itself if python3 is one), `XDG_CACHE_HOME` the cache.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fits() {
    "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}
python=${PYTHON:-}
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$python" ] || ! fits "$candidate" || python=$candidate
done
if [ -z "$python" ] || ! fits "$python"; then
    echo "conformance needs Python 3.11 to 3.14 with the venv module; set PYTHON to one" >&2
    exit 1
fi
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llmc
key=$("$python" - "$here" <<'KEY'
import hashlib, pathlib, platform, sys
parts = [pathlib.Path(sys.argv[1], name).read_bytes() for name in ("requirements.txt", "cuda_stubs.py", "env.sh")]
parts.append(" ".join([sys.version, platform.system(), platform.machine()]).encode())
print(hashlib.sha256(b"\0".join(parts)).hexdigest()[:16])
KEY
)
env=$cache/conformance-$key

if [ -x "$env/bin/python" ]; then
    echo "$env"
    exit 0
fi

mkdir -p "$cache"
building=$(mktemp -d "$cache/building-XXXXXX")
trap 'rm -rf "$building"' EXIT
{
    echo "making $env"
    "$python" -m venv "$building"
    "$building/bin/python" -m pip install --disable-pip-version-check --quiet --no-deps \
        -r "$here/requirements.txt"
    if ! "$building/bin/python" -c 'import torch' 2>/dev/null; then
        site=$("$building/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        "$building/bin/python" "$here/cuda_stubs.py" "$site" || true
    fi
    if ! "$building/bin/python" -c 'import torch' 2>/dev/null; then
        # The long way: everything that torch asks for, GPU or not.
        torch=$(grep '^torch==' "$here/requirements.txt")
        "$building/bin/python" -m pip install --disable-pip-version-check --quiet "$torch"
    fi
    "$building/bin/python" -c 'import torch, transformers, tokenizers, safetensors'
} >&2
# Another run may have been faster; then its environment is used. The interpreter is started by
# the path of the environment, so the rename breaks only console scripts, which nothing calls.
"$python" - "$building" "$env" <<'RENAME'
import os, sys
try:
    os.rename(sys.argv[1], sys.argv[2])
except OSError:
    if not os.path.exists(os.path.join(sys.argv[2], "bin", "python")):
        raise
RENAME
echo "$env"
