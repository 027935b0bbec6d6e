"""`dvc repro` with nothing to do, in a temporary clone whose outs are small files.

What it takes depends on how many stages and files there are, and on nothing that is in them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from knowledge_gaps.core.files import write_text
from knowledge_gaps.study.load import PARAMS_FILE
from measuring import REPOSITORY, Effort, Figure, Row, compare, make_environment, run, take_turns

_FILES = 12  # in a directory; a cohort of the reduced study has 11 to 21
_LIST_OUTS = """
import json
from dvc.repo import Repo
with Repo() as repo:
    print(json.dumps([out.fs_path for stage in repo.index.stages for out in stage.outs]))
"""
_COMMANDS = {
    "`dvc repro`, nothing to do": ("-m", "dvc", "repro"),
    "`dvc status`": ("-m", "dvc", "status"),
    "Python that imports DVC": ("-c", "import dvc.repo"),
}


class Clone:
    """A repository of the working tree's files, as git knows them, with other params.

    Args:
        root: an empty folder.
        params_file: of the study.
    """

    def __init__(self, root: Path, params_file: Path) -> None:
        self.root = root
        names = run(
            ["git", "ls-files", "-coz", "--exclude-standard"], REPOSITORY, os.environ
        ).split("\0")
        for name in filter(None, names):
            if (REPOSITORY / name).is_file():  # a deleted file stays in the index for a while
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(REPOSITORY / name, root / name)
        shutil.copy2(params_file, root / PARAMS_FILE)
        self._environment = make_environment(
            PYTHONPATH=str(root / "src"),
            DVC_GLOBAL_CONFIG_DIR=str(root / ".dvc" / "tmp" / "global"),
            DVC_SITE_CACHE_DIR=str(root / ".dvc" / "tmp" / "site"),
            GIT_CONFIG_GLOBAL=os.devnull,
        )
        who = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
        for command in (("init",), ("add", "--all"), (*who, "commit", "--message", "clone")):
            self.run("git", *command)

    def run(self, *command: str) -> str:
        """Run a command that has to succeed; return what it printed."""
        return run(command, self.root, self._environment)

    def time_python(self, *arguments: str) -> float:
        """Run Python with arguments; return its seconds."""
        start = time.perf_counter()
        self.run(sys.executable, *arguments)
        return time.perf_counter() - start

    def finish(self) -> int:
        """Write every out that is missing and let DVC record it; return the number of outs."""
        (self.root / "dvc.lock").unlink(missing_ok=True)
        self.run("dvc", "repro", "prepare")  # cohorts depend on values in files that it writes
        outs = [Path(name) for name in json.loads(self.run(sys.executable, "-c", _LIST_OUTS))]
        for out in (out for out in outs if not out.exists()):
            for path in [out] if out.suffix else [out / f"{index}.bin" for index in range(_FILES)]:
                write_text(path, f"{path}\n")
        self.run("dvc", "commit", "--force")
        return len(outs)


def measure_idle(effort: Effort) -> Figure:
    """Measure `dvc repro` with nothing to do, beside `dvc status` and the import of DVC."""
    name = "smoke" if effort.is_quick else "mnist_reduced"
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder), REPOSITORY / "settings" / f"{name}.yaml")
        num_outs = clone.finish()
        variants = {key: partial(clone.time_python, *words) for key, words in _COMMANDS.items()}
        seconds = take_turns(variants, effort.num_turns)
    (repro, own), *others = seconds.items()
    return Figure(
        "idle",
        "Nothing to do",
        f"settings/{name}.yaml, with small files in the place of its {num_outs} outs.",
        [
            Row(repro, own, "s"),
            *(Row(f"{repro} / {other}", compare(own, values)) for other, values in others),
        ],
        {"seconds": seconds},
    )
