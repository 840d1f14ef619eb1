# SPDX-License-Identifier: MIT
"""What a source file may not say, line by line. Each rule has its reason beside it."""

import re
import sys
from pathlib import Path

# What is looked for in a line as it stands, and why.
LAYOUT: list[tuple[str, str]] = [
    (r"\t", "four spaces, no tabs"),
    (r"[ \t]+$", "space at the end of a line"),
    (r"^.{121,}$", "longer than 120 columns"),
]
# Where it holds ("" is everywhere), what is looked for in the code without comments and strings, why.
WORDS: list[tuple[str, str, str]] = [
    ("", r"\b(strcpy|strcat|sprintf|vsprintf|gets|strncpy|strncat|stpcpy)\s*\(", "knows no bounds"),
    ("", r"\b(atoi|atol|atoll|atof)\s*\(", "cannot say that it failed: use strtoull and look at the end"),
    ("", r"\b(sscanf|scanf|fscanf|strtok|alloca|tmpnam|mktemp|system|popen)\s*\(", "cannot be used safely"),
    ("src", r"\b(printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror)\s*\(", "the library prints nothing"),
    ("src", r"\b(stdout|stderr|stdin)\b", "the library prints nothing"),
    ("src", r"\b(exit|_exit|abort|quick_exit|atexit)\s*\(", "the library never ends the program"),
    ("src", r"\b(getenv|setenv|putenv|setlocale|signal|sigaction)\s*\(", "the process belongs to its program"),
    ("src", r"\b(rand|srand|random|time|localtime|gmtime)\s*\(", "same input, same bytes: no chance, no clock"),
    ("src", r"\b_Thread_local\b|\b__thread\b", "no hidden state"),
]
# GNU extensions have two homes (docs/design.md): base/compiler.h gives them names, os/ meets the system.
EXTENSION = re.compile(r"__attribute__|__builtin_|__extension__|\btypeof\b|\b__asm|\basm\s*\(")
EXTENSION_HOMES = ("src/base/compiler.h", "src/os/", "src/kernels/", "include/tensorport/error.h")

COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)


def without_comments(text: str) -> str:
    """The code alone; lines keep their numbers."""
    return COMMENT_OR_STRING.sub(lambda match: re.sub(r"[^\n]", "_", match.group()), text)


def faults_of(path: str, text: str) -> list[str]:
    """One line a fault."""
    found = []
    for number, (line, code) in enumerate(zip(text.split("\n"), without_comments(text).split("\n"), strict=True), 1):
        for pattern, why in LAYOUT:
            if re.search(pattern, line):
                found.append(f"{path}:{number}: {why}: {line.strip()[:80]}")
        for folder, pattern, why in WORDS:
            if path.startswith(folder) and re.search(pattern, code):
                found.append(f"{path}:{number}: {why}: {line.strip()[:80]}")
        if path.startswith("src/") and not path.startswith(EXTENSION_HOMES) and EXTENSION.search(code):
            found.append(f"{path}:{number}: a GNU extension outside its home: {line.strip()[:80]}")
    return found


def main() -> int:
    """Look at every C file."""
    faults = []
    for root in ("include", "src", "cli", "examples", "bench", "tests", "fuzz"):
        for path in sorted(Path(root).rglob("*.[ch]")):
            faults += faults_of(path.as_posix(), path.read_text())
    print("\n".join(faults) or "no banned words")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
