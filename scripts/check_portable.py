"""Nothing in the repository may name a package registry's host or the folder that it is checked out in."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOSTS = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("yarnpkg", "com"),
        ("deb", "debian", "org"),
        ("pkg", "dev"),
    )
]


def repository_files(root: Path) -> list[Path]:
    """All files that are, or would be, in a commit."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [root / name for name in sorted(set(names)) if name and (root / name).is_file()]


def offences(path: Path, root: Path, words: list[str]) -> Iterator[str]:
    """One line for each of the words in each line of the file."""
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        for word in words:
            if word in line:
                yield f"{path.relative_to(root)}:{number}: names `{word}`"


def main() -> int:
    """The exit code: 1 when a file names such a thing."""
    root = Path(__file__).resolve().parent.parent
    here = [str(root)] if len(root.parts) > 2 else []  # a checkout in "/app": the word may well be meant
    found = [line for path in repository_files(root) for line in offences(path, root, [*HOSTS, *here])]
    print(*found, f"portable: {len(found)} lines name a registry or this checkout", sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
