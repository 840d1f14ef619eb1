# SPDX-License-Identifier: MIT
"""How long functions are. A function that does not fit a screen is read twice and understood once.

Reports the median, the 90th percentile and the longest; fails only above LIMIT lines, and not even then if a comment
right before the function begins with "Long:" and says why it is better in one piece.
"""

import re
import statistics
import sys
from pathlib import Path

LIMIT = 100
NAME = re.compile(r"\b(\w+)\(")


def functions_of(path: Path) -> list[tuple[int, str, bool]]:
    """Lines, "file:line name", and whether a comment excuses it, for each function (its brace on a line of its own)."""
    lines = path.read_text().split("\n")
    found = []
    start = 0
    for number, line in enumerate(lines):
        if line == "{":
            start = number
        elif line == "}" and start:
            head = start - 1
            while head > 0 and lines[head - 1] and not lines[head - 1].endswith(("*/", "}", ";")):
                head -= 1
            name = NAME.search(" ".join(lines[head:start]))
            excused = any("Long:" in text for text in lines[max(0, head - 4) : head])
            found.append((number - start + 1, f"{path}:{head + 1} {name.group(1) if name else '?'}", excused))
            start = 0
    return found


def main() -> int:
    """Report on the library and the command."""
    functions = [f for root in ("src", "cli") for path in Path(root).rglob("*.c") for f in functions_of(path)]
    lengths = sorted(length for length, _, _ in functions)
    p90 = lengths[len(lengths) * 9 // 10]
    print(f"{len(lengths)} functions, median {statistics.median(lengths):.0f} lines, p90 {p90}")
    for length, where, _ in sorted(functions, reverse=True)[:8]:
        print(f"  {length:4} {where}")
    too_long = [(length, where) for length, where, excused in functions if length > LIMIT and not excused]
    for length, where in too_long:
        print(f"{where}: {length} lines; above {LIMIT} a comment that begins with 'Long:' must say why")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())
