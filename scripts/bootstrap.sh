#!/usr/bin/env bash
# Makes .venv and installs the locked requirements of one set and the project into it: `bootstrap.sh demo|dev`.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "sluicegate: needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3" >&2
    exit 1
fi
if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    PYTHON=$python scripts/system.sh venv
    "$python" -m venv --clear .venv
fi

echo "sluicegate: installing requirements/$1.txt into .venv"
.venv/bin/python -m pip --disable-pip-version-check --quiet install --only-binary :all: --requirement requirements/build.txt
.venv/bin/python scripts/uv.py pip install --quiet --compile-bytecode --only-binary :all: --require-hashes --requirement "requirements/$1.txt"
.venv/bin/python scripts/uv.py pip install --quiet --no-deps --no-build-isolation --editable .
touch .venv/.demo ".venv/.$1" # every set contains the demo's
