# SPDX-License-Identifier: MIT
"""Every file of cases/ is a test."""

from __future__ import annotations

from pathlib import Path

import cases
import pytest
from command import command_path


@pytest.mark.parametrize("path", sorted(cases.FOLDER.glob("*.case")), ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    faults = cases.run(path, command_path())
    assert not faults, "\n" + "\n".join(faults)
