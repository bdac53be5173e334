#!/usr/bin/env bash
# Compiles the lock files for every Python and machine we support. `make lock UPGRADE=1` takes the newest versions.
set -eu
cd "$(dirname "$0")/.."

compile() { # SET SOURCE...
    set_name=$1
    shift
    .venv/bin/python scripts/uv.py pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-annotate --custom-compile-command 'make lock' ${UPGRADE:+--upgrade} \
        --output-file "requirements/$set_name.txt" "$@"
}

same="--constraints requirements/dev.txt"
compile dev pyproject.toml --extra demo --group build --group dev
compile demo pyproject.toml --extra demo --group build $same
compile runtime pyproject.toml $same
compile build --group build $same
cd tests/node
../../.venv/bin/npm install --package-lock-only --ignore-scripts
