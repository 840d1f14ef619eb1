# SPDX-License-Identifier: MIT
"""Who may include whom. A room that reaches upwards makes a circle, and circles are why big programs cannot be changed.

The order is that of the table in docs/design.md, section 2. A room may include itself, rooms above it that its row
names, single headers (of types, as a rule) from below that its row names, and of the system what SYSTEM says.
"""

import re
import sys
from pathlib import Path

# Room: the rooms under src/, or single headers of them, that it may include besides itself, src/base and the public
# headers.
ROOMS: dict[str, str] = {
    "src/base": "",
    "src/os": "",
    "src/kernels": "os/float_mode.h os/host.h",  # host: init.c asks what the CPU can
    "src/dtype": "kernels",
    "src/codec": "kernels",  # digests run at the CPU's level
    "src/checkpoint": "codec os dtype kernels quant/groups.h",  # quant: groups are recognised while opening
    "src/quant": "os dtype codec kernels checkpoint",  # checkpoint: its types; codec: JSON within tensors
    "src/map": "codec dtype",  # names and shapes are all it sees: no checkpoint, no file
    "src/plan": "map quant checkpoint dtype kernels",  # their types; no I/O, no threads
    "src/format": "codec map plan dtype checkpoint",  # layout, and nothing that moves bytes
    "src/manifest": "os codec map plan dtype kernels checkpoint",
    "src/pipeline": "os codec dtype kernels map plan quant checkpoint format/format.h",
    "src/job": "os kernels dtype codec checkpoint quant map plan format manifest pipeline",  # where all of them meet
    "cli": "",  # the library's first user: the public promise and no more
    "examples": "",
}

PLAIN_C = (
    "assert.h ctype.h errno.h float.h inttypes.h limits.h math.h stdalign.h stdarg.h stdatomic.h stdbool.h stddef.h"
    " stdint.h stdio.h stdlib.h string.h"
)
# The system's headers that a room may use. What is missing here takes what it likes: src/os, and the programs.
SYSTEM: dict[str, str] = {
    "include": "stdbool.h stddef.h stdint.h",
    "src/base": PLAIN_C,
    "src/kernels": "stdbool.h stddef.h stdint.h math.h string.h immintrin.h arm_neon.h xxhash.h",
    "src/dtype": PLAIN_C,
    "src/codec": PLAIN_C + " locale.h xxhash.h openssl/evp.h zstd.h zstd_errors.h",  # locale: strtod follows it
    "src/checkpoint": PLAIN_C + " pthread.h",  # the cache of open files is shared by the workers
    "src/quant": PLAIN_C,
    "src/map": PLAIN_C,
    "src/plan": PLAIN_C,
    "src/format": PLAIN_C,
    "src/manifest": PLAIN_C,
    "src/pipeline": PLAIN_C + " pthread.h time.h",  # time: the deadline of a wait
    "src/job": PLAIN_C,
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def room_of(path: str) -> str:
    """The folder whose rules hold: src/<room>, or the first folder."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "src" else parts[0]


def fault(room: str, kind: str, header: str) -> str | None:
    """What is wrong with this #include in this room, if anything."""
    if header.startswith("tensorport/"):
        return None
    if kind == "<":
        wrong = room in SYSTEM and header not in SYSTEM[room].split()
        return f"{room} may not use the system's {header}" if wrong else None
    if "/" not in header:  # beside the file that includes it
        return None
    target = header.split("/")[0]
    allowed = ROOMS.get(room, "").split()
    if room.startswith("src/"):
        allowed += ["base", room.removeprefix("src/")]
    return None if target in allowed or header in allowed else f"{room} may not include {header}"


def faults_of_table() -> list[str]:
    """The table here, and that of docs/design.md: the same rooms in the same order, whole rooms only from above."""
    described = re.findall(r"^\| `(src/\w+|cli)/` \|", Path("docs/design.md").read_text(), re.MULTILINE)
    rooms = [room for room in ROOMS if room != "examples"]
    faults = [] if rooms == described else [f"docs/design.md has the rooms {described}, tools/check_layers.py {rooms}"]
    for number, room in enumerate(rooms):
        above = [other.removeprefix("src/") for other in rooms[:number]]
        below = [name for name in ROOMS[room].split() if "/" not in name and name not in above]
        faults += [f"tools/check_layers.py: {room} may not include {name}, which is not above it" for name in below]
    return faults


def main() -> int:
    """Look at every C file of the library, the command and the examples."""
    faults = faults_of_table()
    for root in ("include", "src", "cli", "examples"):
        for path in sorted(Path(root).rglob("*.[ch]")):
            room = room_of(path.as_posix())
            if root == "src" and room not in ROOMS:
                faults.append(f"{path}: {room} is not in the table of rooms (tools/check_layers.py)")
                continue
            for kind, header in INCLUDE.findall(path.read_text()):
                wrong = fault(room, kind, header)
                if wrong:
                    faults.append(f"{path}: {wrong}")
    print("\n".join(faults) or "every #include keeps to its layer")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
