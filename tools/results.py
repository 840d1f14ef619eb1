# SPDX-License-Identifier: MIT
"""What test runners found, read from the files they leave, as totals of one kind."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Totals:
    """How many tests passed, failed, were skipped; and the names of those that failed."""

    passed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, part: "Totals") -> None:
        """Take in what one part found."""
        self.passed += part.passed
        self.skipped += part.skipped
        self.failures += part.failures

    def settle(self, part: str, exit_status: int) -> "Totals":
        """A runner that ended badly without naming a failure, or that ran nothing, counts as one failure."""
        if not self.failures and (exit_status != 0 or self.passed == 0):
            self.failures.append(f"{part}: ended with status {exit_status} after {self.passed} tests")
        return self

    def line(self) -> str:
        """The last line of all, for people and for CI."""
        return f"{self.passed} passed, {len(self.failures)} failed"


def from_junit(report: Path, part: str) -> Totals:
    """Pytest's report."""
    totals = Totals()
    for case in ElementTree.parse(report).iter("testcase") if report.exists() else ():
        if case.find("failure") is not None or case.find("error") is not None:
            totals.failures.append(f"{part}: {case.get('classname', '')} {case.get('name', '')}")
        elif case.find("skipped") is not None:
            totals.skipped += 1
        else:
            totals.passed += 1
    return totals


TAP_LINE = re.compile(r"^(not )?ok \d+(.*)$", re.MULTILINE)


def from_meson(log: Path, part: str) -> Totals:
    """Meson's log, a JSON object a program. Each line of TAP is a test; a program that dies is a failure of its own."""
    totals = Totals()
    for program in map(json.loads, log.read_text().splitlines() if log.exists() else ()):
        name = f"{part}: {program['name']}"
        failed_before = len(totals.failures)
        for wrong, rest in TAP_LINE.findall(program["stdout"] or ""):
            if wrong:
                totals.failures.append(f"{name}{rest}")
            elif "# skip" in rest.lower():
                totals.skipped += 1
            else:
                totals.passed += 1
        if program["result"] not in ("OK", "SKIP") and len(totals.failures) == failed_before:
            totals.failures.append(f"{name}: {program['result']}, exit status {program['returncode']}")
    return totals


def words_of_failures(log: Path) -> str:
    """What the programs that failed said on stdout, where TAP has its comments (Meson itself shows stderr only)."""
    programs = map(json.loads, log.read_text().splitlines() if log.exists() else ())
    bad = [p for p in programs if p["result"] not in ("OK", "SKIP")]
    return "\n".join(f"--- {p['name']}\n" + re.sub(r"(?m)^ok .*\n", "", p["stdout"] or "") for p in bad)
