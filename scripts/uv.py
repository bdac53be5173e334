"""Runs uv with pip's configuration (index, proxy, certificates), which uv does not read: `uv.py pip install ...`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
SECTIONS = ("global", "install", ":env:")
"""Of pip's configuration, in rising precedence."""


def pip_config_list() -> str:
    """What `pip config list` prints: lines of `section.name='value'`."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def effective(listing: str) -> dict[str, str]:
    """The settings in force for `pip install`, by their long names."""
    settings = dict(line.split("=", 1) for line in listing.splitlines())
    return {
        name: str(ast.literal_eval(value))
        for section in SECTIONS
        for key, value in settings.items()
        if (name := key.removeprefix(f"{section}.")) != key
    }


def uv_environment(settings: dict[str, str]) -> dict[str, str]:
    """What makes uv look where pip looks. All versions of an index count, as with pip; hashes keep that safe."""
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never"}
    for name, uv_name in UV_NAMES.items():
        if value := settings.get(name):
            environment[uv_name] = ("," if name == "find-links" else " ").join(value.split())
    return environment


if __name__ == "__main__":
    os.environ.update({"VIRTUAL_ENV": sys.prefix, **uv_environment(effective(pip_config_list())), **os.environ})
    uv = Path(sys.executable).with_name("uv")
    os.execv(uv, [str(uv), *sys.argv[1:]])
