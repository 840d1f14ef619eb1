# SPDX-License-Identifier: MIT
"""Every source file says its licence in its first line (or the second, after #!), so that none is copied without it."""

import sys
from pathlib import Path

SUFFIXES = {".c", ".h", ".py", ".sh"}
NAMES = {"meson.build", "meson_options.txt", "Makefile"}
SKIPPED = {"build", ".git", "data"}


def main() -> int:
    """Look at every source file of the tree."""
    faults = []
    for path in sorted(Path().rglob("*")):
        if SKIPPED & set(path.parts) or any(part.startswith("build-") for part in path.parts) or not path.is_file():
            continue
        if path.suffix not in SUFFIXES and path.name not in NAMES:
            continue
        lines = path.read_text().split("\n")
        first = lines[1] if lines[0].startswith("#!") else lines[0]
        tag = "SPDX-License-Identifier: MIT"
        wanted = f"/* {tag} */" if path.suffix in (".c", ".h") else f"# {tag}"
        if first != wanted:
            faults.append(f"{path}: the first line is not {wanted}")
    print("\n".join(faults) or "every source file names its licence")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
