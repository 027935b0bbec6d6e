"""What tests of interrupted trainings share: waiting for a state, and what is saved by then."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from knowledge_gaps.core.checkpoint import read_metadata

STATES = Path(".kgaps") / "trainings" / "gans-baseline"
LOCKS = STATES.with_name("gans-baseline.locks")
TIMEOUT_SEC = 900


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_SEC
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def has_states(root: Path, number: int = 1) -> bool:
    """Tell whether so many instances have saved a state."""
    return len(list((root / STATES).glob("*/state.safetensors"))) >= number


def finish(process: subprocess.Popen[str], code: int = 0) -> tuple[str, str]:
    """Wait for the end of a command; return what it printed."""
    out, err = process.communicate(timeout=TIMEOUT_SEC)
    assert process.returncode == code, err
    return out, err


def read_saved_steps(root: Path) -> list[int]:
    """Read at which steps the instances' states were saved."""
    paths = sorted((root / STATES).glob("*/state.safetensors"))
    return [json.loads(read_metadata(path)["counters"])["step"] for path in paths]
