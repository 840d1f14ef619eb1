# SPDX-License-Identifier: MIT
"""A thin front to the command `tensorport`: the one that TENSORPORT_BIN names, else the one on the PATH."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from .errors import CommandError


def convert(input: str | os.PathLike[str], output: str | os.PathLike[str], **options: Any) -> dict[str, Any]:
    """Run `tensorport convert`.

        tensorport.convert("models/x", "models/x-jax", precision="bfloat16", keep_dtype=["*norm*"], workers=4)

    Args:
        input: folder of a safetensors checkpoint, or one .safetensors file.
        output: folder to make.
        **options: those of the command, dashes as underscores: True is a bare option, a list repeats it, None
            and False leave it out.

    Returns:
        The command's summary (`--json`).

    Raises:
        CommandError: it failed, or there is no such command; the message is what it said.
    """
    return _run("convert", {"input": os.fspath(input), "output": os.fspath(output), **options})


def verify(
    model: str | os.PathLike[str], source: str | os.PathLike[str] | None = None, **options: Any
) -> dict[str, Any]:
    """Run `tensorport verify`: the output against its manifest, with `source` every byte against the source.

    Returns:
        The command's summary (`--json`).

    Raises:
        CommandError: something differs (returncode 1, the differences in its `summary`), or verifying failed.
    """
    paths = {"model": os.fspath(model), "source": None if source is None else os.fspath(source)}
    return _run("verify", {**paths, **options})


def _run(name: str, options: dict[str, Any]) -> dict[str, Any]:
    program = os.environ.get("TENSORPORT_BIN") or shutil.which("tensorport")
    if program is None:
        raise CommandError(["tensorport"], -1, "no command tensorport on the PATH (or in TENSORPORT_BIN)", None)
    command = [program, name, "--json", *_arguments(options)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as fault:
        raise CommandError(command, -1, f"{program}: {fault.strerror}", None) from fault
    summary = _summary(done.stdout)
    if done.returncode != 0 or summary is None:
        raise CommandError(command, done.returncode, done.stderr, summary)
    return summary


def _arguments(options: dict[str, Any]) -> list[str]:
    """Each option as `--name=value`, so that no value can be taken for an option."""
    result = []
    for key, value in options.items():
        option = "--" + key.replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                result.append(option)
            elif item is not None and item is not False:
                result.append(f"{option}={item}")
    return result


def _summary(text: str) -> dict[str, Any] | None:
    try:
        summary = json.loads(text)
    except ValueError:
        return None
    return summary if isinstance(summary, dict) else None
