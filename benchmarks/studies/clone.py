"""A temporary repository of the working tree's files, in which DVC runs as a user would let it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from knowledge_gaps.study import PARAMS_FILE
from measuring.processes import REPOSITORY, make_environment, run

_STAGE = re.compile(r"^(?:Running stage|Stage) '([^']+)'")
_RUNNING = re.compile(r"^Running stage '([^']+)'")


@dataclass(frozen=True)
class Repro:
    """What a `dvc repro` did.

    Attributes:
        seconds: of the whole, by the clock.
        stages: seconds of each stage that ran, from its announcement to what came next.
        num_stages: that it looked at, those included that it skipped.
    """

    seconds: float
    stages: dict[str, float]
    num_stages: int


@dataclass(frozen=True)
class Clone:
    """A clone, and the environment of its commands."""

    root: Path
    environment: Mapping[str, str]

    def run(self, *command: str) -> str:
        """Run a command that has to succeed; return what it said."""
        return run(command, self.root, self.environment)

    def time(self, *command: str) -> float:
        """Run a command that has to succeed; return its seconds."""
        start = time.perf_counter()
        self.run(*command)
        return time.perf_counter() - start

    def reproduce(self, *options: str) -> Repro:
        """Run `dvc repro` and look at the clock whenever it announces a stage.

        Raises:
            RuntimeError: when it fails.
        """
        start = time.perf_counter()
        process = subprocess.Popen(
            ["dvc", "repro", *options],
            cwd=self.root,
            env=dict(self.environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        marks: list[tuple[str, float]] = []
        said: list[str] = []
        seen: set[str] = set()
        for line in process.stdout:
            said.append(line)
            if stage := _STAGE.match(line):
                seen.add(stage[1])
                running = _RUNNING.match(line)
                marks.append(("" if running is None else running[1], time.perf_counter()))
        if process.wait() != 0:
            raise RuntimeError(f"dvc repro failed:\n{''.join(said)[-2000:]}")
        end = time.perf_counter()
        ends = [*(mark for _, mark in marks[1:]), end]
        stages = {
            name: until - mark for (name, mark), until in zip(marks, ends, strict=True) if name
        }
        return Repro(end - start, stages, len(seen))


def clone_working_tree(root: Path, params: str) -> Clone:
    """Make a repository of the working tree's files, as git knows them, with other params."""
    list_files = ["git", "ls-files", "-coz", "--exclude-standard"]
    for name in filter(None, run(list_files, REPOSITORY, os.environ).split("\0")):
        if (REPOSITORY / name).is_file():  # a deleted file stays in the index for a while
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)
    (root / PARAMS_FILE).write_text(params, encoding="utf-8")
    changes = {
        "PYTHONPATH": str(root / "src"),
        "DVC_GLOBAL_CONFIG_DIR": str(root.parent / "dvc_global"),
        "DVC_SITE_CACHE_DIR": str(root.parent / "dvc_site"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    environment = make_environment(**changes)
    environment.pop("KGAPS_TRACKING")  # tracking is on, as it is for a user
    clone = Clone(root, environment)
    clone.run("git", "init", "--quiet")
    clone.run("git", "add", "--all")
    who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    clone.run("git", *who, "commit", "--quiet", "--message", "clone")
    return clone
