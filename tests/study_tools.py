"""What tests of stages share: a smoke study in a folder of its own, stages, the command line.

Fixtures are in `conftest`; nothing here depends on pytest.
"""

from __future__ import annotations

import gzip
import hashlib
import multiprocessing.forkserver
import os
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from knowledge_gaps.core.instance import Instance
from knowledge_gaps.core.layout import get_reports, get_samples_file
from knowledge_gaps.data.store import open_images
from knowledge_gaps.execution.parallel import PRELOAD
from knowledge_gaps.study import PARAMS_FILE, Kind, load_study

REPOSITORY = Path(__file__).resolve().parents[1]
SMOKE_FILE = REPOSITORY / "settings" / "smoke.yaml"
DATA_DIRECTORY = Path("data") / "mnist_reduced"

# the whole smoke study in the order of dvc.yaml, without the report
STAGES = (
    ("check",),
    ("prepare",),
    ("gans", "baseline"),
    ("pools", "baseline_1"),
    ("classifiers", "iteration_0"),
    ("pools", "c0"),
    ("gans", "fool_all_1"),
    ("samples",),
    ("detections",),
    ("perturbations",),
    ("controls",),
    ("quality",),
    ("judges",),
    ("spectra",),
    ("attributions",),
    ("audit",),
    ("agreement",),
)

_PRELOADED = (
    *PRELOAD,
    *(f"knowledge_gaps.stages.{name}" for name, *_ in STAGES[STAGES.index(("samples",)) :]),
    "pytest",
)


def start_fork_server() -> None:
    """Start the process that all workers of this test run are forked from.

    A worker then costs a tenth of a second, not an import of torch.
    """
    multiprocessing.forkserver.set_forkserver_preload(list(_PRELOADED))
    multiprocessing.forkserver.ensure_running()


def make_smoke_root(root: Path) -> Path:
    """Make a folder with the smoke study's params.yaml and a link to the committed reals."""
    (root / DATA_DIRECTORY).parent.mkdir(parents=True)
    (root / DATA_DIRECTORY).symlink_to(REPOSITORY / DATA_DIRECTORY)
    shutil.copyfile(SMOKE_FILE, root / PARAMS_FILE)
    return root


def copy_root(source: Path, target: Path, *dropped: str) -> Path:
    """Copy a study's folder without its trainings, and without the dropped paths."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("trainings"))
    for name in dropped:
        shutil.rmtree(target / name)
    return target


def change_params(root: Path, changes: Mapping[str, Any]) -> None:
    """Set entries of a study's params.yaml, each given by its dotted key; None removes one."""
    path = root / PARAMS_FILE
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *sections, last = key.split(".")
        entry = params
        for section in sections:
            entry = entry[section]
        if value is None:
            del entry[last]
        else:
            entry[last] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def run_stage(root: Path, stage: str, *names: str) -> None:
    """Run a stage in this process, as the command line does."""
    study = load_study(root / PARAMS_FILE)
    is_cohort = stage in tuple(Kind)
    module = import_module(f"knowledge_gaps.stages.{'cohort' if is_cohort else stage}")
    module.run(root, study, *names, *([Kind(stage)] if is_cohort else []))


def write_idx(path: Path, values: npt.NDArray[np.uint8]) -> None:
    """Write an array as gzip-compressed IDX."""
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


def read_table(root: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(get_reports(root, load_study(root / PARAMS_FILE).study.name) / f"{name}.csv")


def get_samples(root: Path, cohort: str, chain: int, number: int) -> Path:
    """File of a generator's images; the generator is named as in tables."""
    return get_samples_file(root, cohort, Instance(chain, number))


def mix_files(first: Path, second: Path) -> npt.NDArray[np.uint8]:
    """Take 40 images of one file and 24 of the other: what no classifier finds easy."""
    return np.concatenate([open_images(first)[:40], open_images(second)[:24]])


def start_kgaps(
    root: Path, *arguments: str, launcher: Sequence[str] = (), **options: Any
) -> subprocess.Popen[str]:
    """Start the command line in a study's folder as a process of its own, with outputs in pipes.

    Its workers hold the pipes too, so `communicate` returns when the last of them has ended. The
    launcher is arguments of Python that come first, such as those of torchrun; options are Popen's.
    """
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "knowledge_gaps", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def hash_tree(directory: Path) -> dict[str, str]:
    """Hash every file below a directory, by its path relative to it."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


@contextmanager
def limit_file_size(num_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
