"""`python -m bench [calls] [directory] [--json FILE]`: runs the benchmarks, all or some, and prints them as ratios."""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench import calls, directory
from bench.processes import NotUp


def main() -> int:
    """Exit code 0 when everything was measured."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("what", nargs="*", choices=["calls", "directory", []], help="all, unless some are named")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--json", type=Path, help="also write the medians to this file")
    given = options.parse_args()
    console = Console(width=140)
    medians: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        Path(folder).chmod(0o755)  # nginx drops root and must still reach its folders
        try:
            if "directory" in (given.what or ["directory"]):
                medians["directory"] = directory.run(console)
            if "calls" in (given.what or ["calls"]):
                medians["calls"] = calls.run(given.rounds, given.seconds, Path(folder), console)
        except NotUp as error:
            sys.stderr.write(f"bench: {error}\n")
            return 1
    if given.json:
        given.json.write_text(json.dumps(medians, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
