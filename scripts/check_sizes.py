"""The caps of the house: a module has at most 400 lines, a function at most 50. `check_sizes.py FOLDER...`."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MODULE_CAP = 400
FUNCTION_CAP = 50


def oversized(path: Path) -> Iterator[str]:
    """One line for the module and for each function in it that is over its cap."""
    text = path.read_text(encoding="utf-8")
    lines = len(text.splitlines())
    if lines > MODULE_CAP:
        yield f"{path}:1: module has {lines} lines, the cap is {MODULE_CAP}"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            if length > FUNCTION_CAP:
                yield f"{path}:{node.lineno}: `{node.name}` has {length} lines, the cap is {FUNCTION_CAP}"


def main(folders: list[str]) -> int:
    """The exit code: 1 when anything is over its cap."""
    modules = [path for folder in folders for path in sorted(Path(folder).rglob("*.py"))]
    found = [line for path in modules for line in oversized(path)]
    print(*found, f"sizes: {len(modules)} modules, {len(found)} over the cap", sep="\n")
    return 1 if found or not modules else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
