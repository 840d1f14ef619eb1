# SPDX-License-Identifier: MIT
"""Every C file is in a list of sources: one that is in none is not built, and nobody notices until it is needed."""

import sys
from pathlib import Path


def main() -> int:
    """Compare the tree with the words of all meson.build files at or above each source."""
    faults = []
    for root in ("src", "cli", "examples", "bench", "tests", "fuzz"):
        for path in sorted(Path(root).rglob("*.c")):
            lists = [folder / "meson.build" for folder in path.parents if (folder / "meson.build").is_file()]
            text = "\n".join(p.read_text() for p in lists)
            if f"{path.name}'" not in text and f"'{path.stem}'" not in text:
                faults.append(f"{path}: not in {lists[0]}")
    print("\n".join(faults) or "every C file is built")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
