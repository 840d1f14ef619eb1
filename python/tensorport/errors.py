# SPDX-License-Identifier: MIT
"""What can go wrong, each with a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FormatError(ValueError):
    """A file is not what the manifest says, or the manifest is not sound. Nothing of it is trusted.

    The message names the file and, where there is one, the array.
    """


class MismatchError(ValueError):
    """What was asked for and what the checkpoint holds do not fit together.

    Attributes:
        problems: one line for each name, shape or dtype that does not fit, all of them.
    """

    def __init__(self, message: str, problems: Sequence[str]) -> None:
        """`message` introduces `problems`; the text shows at most fifty of them."""
        shown = list(problems[:50])
        if len(problems) > len(shown):
            shown.append(f"... and {len(problems) - len(shown)} more")
        super().__init__("\n  ".join([message, *shown]))
        self.problems = list(problems)


class TruncationError(ValueError):
    """JAX would cut 64-bit arrays to 32 bits, because jax_enable_x64 is off.

    Attributes:
        names: every array concerned.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the 64-bit arrays."""
        listed = ", ".join(printable(name) for name in names[:20])
        if len(names) > 20:
            listed += f" and {len(names) - 20} more"
        super().__init__(
            f"{len(names)} arrays have 64-bit elements, which JAX would cut to 32 bits: {listed}. "
            "Use jax.config.update('jax_enable_x64', True), leave them out with names=, "
            "or pass allow_truncation=True"
        )
        self.names = list(names)


class CommandError(RuntimeError):
    """The command `tensorport` failed, or `verify` found a difference.

    Attributes:
        command: the argument list.
        returncode: 1 verify found a difference, 2 usage, 3 bad input, 4 I/O, 5 memory or disk; -1 not found.
        stderr: what it said.
        summary: the object it printed on stdout, or None.
    """

    def __init__(self, command: Sequence[str], returncode: int, stderr: str, summary: dict[str, Any] | None) -> None:
        """The message is what the command said: its words, or the differences that verify found."""
        differences = (summary or {}).get("differences") or []
        words = stderr.strip() or "\n".join(map(str, differences))
        super().__init__(words or f"{command[0]} ended with exit code {returncode}")
        self.command = list(command)
        self.returncode = returncode
        self.stderr = stderr
        self.summary = summary


def printable(name: object, limit: int = 200) -> str:
    """`name` quoted for a message: control and bidirectional characters escaped, cut after `limit` characters."""
    text = str(name)
    return repr(text if len(text) <= limit else text[:limit] + "...")
