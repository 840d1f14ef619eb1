# SPDX-License-Identifier: MIT
"""Writes the table of presets in C: every maps/TARGET/FAMILY.json, as bytes, sorted. The same maps, the same text.

    embed_maps.py MAPS OUTPUT.c DEPFILE

A map that is not plain ASCII JSON, or whose "name" is not its place, is refused here: what is in the library works.
"""

import json
import re
import sys
from pathlib import Path

WORD = re.compile(r"[a-z0-9]+(?:[.-][a-z0-9]+)*")
BYTES_PER_LINE = 24
HEAD = """/* SPDX-License-Identifier: MIT */
/* Made by tools/embed_maps.py from the folder maps/. */
#include "job/preset.h"

"""


def fault(name: str, text: bytes) -> str | None:
    """What is wrong with this map, if anything; what its rules say is the parser's business."""
    if not all(WORD.fullmatch(part) for part in name.split("/")):
        return "lower-case words, digits, dots and dashes make a preset's name"
    if not text.isascii() or b"\0" in text:
        return "plain ASCII only"
    try:
        said = json.loads(text)
    except ValueError as error:
        return str(error)
    if not isinstance(said, dict) or said.get("name") != name:
        return f'its "name" must be "{name}", which is its place'
    return None


def array(number: int, text: bytes) -> str:
    """One map as a C array that ends with a zero."""
    data = [*text, 0]
    lines = [",".join(map(str, data[i : i + BYTES_PER_LINE])) for i in range(0, len(data), BYTES_PER_LINE)]
    return f"static const char text_{number}[] = {{\n" + ",\n".join(lines) + "};\n"


def main(arguments: list[str]) -> int:
    """Write the table, and the file that tells Ninja what it was made from: a folder changes when a map is added."""
    folder, output, depfile = map(Path, arguments)
    maps = sorted(folder.glob("*/*.json"), key=lambda path: (path.parent.name, path.stem))
    parts, rows, faults = [], [], []
    for number, path in enumerate(maps):
        text, name = path.read_bytes(), f"{path.parent.name}/{path.stem}"
        wrong = fault(name, text)
        if wrong:
            faults.append(f"{path}: {wrong}")
        parts.append(array(number, text))
        rows.append(f'    {{"{path.parent.name}", "{path.stem}", text_{number}, {len(text)}}},\n')
    if faults:
        print("\n".join(faults))
        return 1
    rows.append("    {NULL, NULL, NULL, 0},\n")
    table = f"const struct tp_preset tp_presets[] = {{\n{''.join(rows)}}};\n"
    output.write_text(f"{HEAD}{''.join(parts)}\n{table}const uint32_t tp_presets_count = {len(maps)};\n")
    inputs = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir()), *maps]
    depfile.write_text(f"{output}: {' '.join(str(path).replace(' ', chr(92) + ' ') for path in inputs)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
