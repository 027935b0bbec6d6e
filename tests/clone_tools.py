"""Clones of the working tree in which tests run `dvc repro`, as a user would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from study_tools import REPOSITORY

TIMEOUT_SEC = 900


class Clone(NamedTuple):
    """A clone of the repository, and the environment that its commands run in."""

    root: Path
    environment: Mapping[str, str]

    def start(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *command: str) -> str:
        return finish(self.start(*command))


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a command that has to succeed; return what it said."""
    out, _ = process.communicate(timeout=TIMEOUT_SEC)
    assert process.returncode == 0, out
    return out


def clone_working_tree(root: Path, params_file: Path, **environment: str) -> Clone:
    """Make a repository of the working tree's files, as git knows them, with other params."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    names = subprocess.check_output(command, cwd=REPOSITORY, text=True)
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():  # a deleted file stays in the index for a while
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)
    shutil.copyfile(params_file, root / "params.yaml")
    others = ("DVC_", "GIT_", "KGAPS_", "MLFLOW_")
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(others)}
    own = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(root / "src"),  # before the installed package
        "DVC_GLOBAL_CONFIG_DIR": str(root.parent / "dvc_global"),
        "DVC_SITE_CACHE_DIR": str(root.parent / "dvc_site"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    clone = Clone(root, {**inherited, **own, **environment})
    clone.run("git", "init", "--quiet")
    clone.run("git", "add", "--all")
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    clone.run("git", *who, "commit", "--quiet", "--message", "clone")
    return clone


def list_stages_run(output: str) -> list[str]:
    return re.findall(r"^Running stage '(\S+)'", output, re.MULTILINE)
