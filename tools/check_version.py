# SPDX-License-Identifier: MIT
"""The version stands in four places; they must agree."""

import re
import sys
from pathlib import Path

PLACES = {
    "include/tensorport/tensorport.h": r'TP_VERSION "([^"]+)"',
    "meson.build": r"version: '([^']+)'",
    "pyproject.toml": r'(?m)^version = "([^"]+)"',
    "CHANGELOG.md": r"(?m)^## ([0-9][^ \n]*)",
}


def main() -> int:
    """Print each place with what it says."""
    found = {}
    for place, pattern in PLACES.items():
        match = re.search(pattern, Path(place).read_text())
        found[place] = match.group(1) if match else "nothing"
        print(f"{place}: {found[place]}")
    return 0 if len(set(found.values())) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
