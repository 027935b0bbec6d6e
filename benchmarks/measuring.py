"""Paired measurement: variants take turns in one run, and what is reported are their ratios.

A machine's speed drifts, with what else it does and how warm it is. Two numbers that are taken one
beside the other share the drift, so their ratio is steadier than either.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psutil  # type: ignore[import-untyped]
import torch

from knowledge_gaps.core.devices import count_cores, count_gpus
from knowledge_gaps.core.files import read_json, write_json, write_text

REPOSITORY = Path(__file__).resolve().parents[1]
JSON_FILE, PAGE_FILE = "benchmarks.json", "benchmarks.md"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # the shell's; a user has torch's default
_HEAD = """# Benchmarks

Written by `make bench`. A ratio is of two things that were measured in turns, one beside the other
in one run: its median over the pairs, and the smallest and the largest.
"""
_QUICK = "\n**A trial of the benchmarks themselves, on tiny sizes: its numbers mean nothing.**\n"

_Name = TypeVar("_Name")


@dataclass(frozen=True)
class Effort:
    """How much is measured: pairs a figure, and whether sizes are tiny, to try the benchmarks."""

    num_turns: int = 5
    is_quick: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a figure: what is measured, its value in every turn, and their unit."""

    name: str
    values: Sequence[float]
    unit: str = "x"


@dataclass(frozen=True)
class Figure:
    """One comparison."""

    name: str  # for the command line
    title: str  # for people
    text: str  # how it was measured
    rows: Sequence[Row]
    # what the rows were computed from, for the JSON file alone
    measured: Mapping[str, Any] = field(default_factory=dict)


def take_turns(
    variants: Mapping[_Name, Callable[[], float]], num_turns: int
) -> dict[_Name, list[float]]:
    """Measure every variant once a turn, every second turn in reverse order.

    Returns:
        The numbers of each variant, one a turn.
    """
    found: dict[_Name, list[float]] = {name: [] for name in variants}
    for turn in range(num_turns):
        for name in list(variants)[:: 1 if turn % 2 == 0 else -1]:
            found[name].append(variants[name]())
    return found


def compare(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Divide what was measured in the same turn; raises ValueError for unequal numbers of turns."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def make_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment without what decides threads, workers or tracking."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _THREADS and not name.startswith(("DVC_", "GIT_", "KGAPS_", "MLFLOW_"))
    }
    return {
        **kept,
        "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY / 'benchmarks'}",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "KGAPS_TRACKING": "off",
        **changes,
    }


def run(command: Sequence[object], folder: Path, environment: Mapping[str, str]) -> str:
    """Run a command; return its standard output. Raises RuntimeError, with all, when it fails."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
    )
    if done.returncode != 0:
        printed = (done.stdout + done.stderr)[-2000:]
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{printed}")
    return done.stdout


def time_module(folder: Path, module: str, *arguments: object) -> float:
    """Run `python -m MODULE` in a folder as a user does; return its seconds, start included."""
    start = time.perf_counter()
    run([sys.executable, "-m", module, *arguments], folder, make_environment())
    return time.perf_counter() - start


def describe_machine() -> str:
    """Return what the figures were measured on, in one line."""
    cpu_file, model = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    lines = cpu_file.read_text("utf-8").splitlines() if cpu_file.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    gpus = f"{count_gpus()} GPUs" if count_gpus() > 0 else "no GPU"
    memory = psutil.virtual_memory().total / 2**30
    return (
        f"{count_cores()} cores of {models[0] if models else model}, {memory:.0f} GiB of memory, "
        f"{gpus}; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}"
    )


class Results:
    """The two files of a folder; figures of an earlier run stay until they are measured anew.

    Args:
        folder: of the files.
        machine: from `describe_machine`; figures of another machine are dropped.
        order: names of all figures, as on the page.
        is_quick: the figures of this run are trials, and those of other runs are dropped.
    """

    def __init__(self, folder: Path, machine: str, order: Sequence[str], is_quick: bool) -> None:
        self._folder, self._order = folder, list(order)
        head = {"format": 3, "machine": machine, "is_quick": is_quick}
        before = read_json(folder / JSON_FILE) if (folder / JSON_FILE).exists() else {}
        is_same = all(before.get(key) == value for key, value in head.items())
        self._content: dict[str, Any] = {**head, "figures": before["figures"] if is_same else []}

    def put(self, figure: Figure, load: float) -> None:
        """Add a figure, or replace it, and write both files; the load is as on the page."""
        described = {**asdict(figure), "load": load}
        described["rows"] = [
            {**row, "median": statistics.median(row["values"])} for row in described["rows"]
        ]
        figures = {each["name"]: each for each in [*self._content["figures"], described]}
        self._content["figures"] = [figures[name] for name in self._order if name in figures]
        write_json(self._folder / JSON_FILE, self._content)
        write_text(self._folder / PAGE_FILE, render_page(self._content))


def render_page(content: Mapping[str, Any]) -> str:
    """Render the content of the JSON file as Markdown."""
    lines = [_HEAD, f"Machine: {content['machine']}.\n"]
    lines += [_QUICK] if content["is_quick"] else []
    for figure in content["figures"]:
        load = f"(before, other programs used {figure['load']:.0f} % of the cores)"
        lines += ["", f"## {figure['title']}", "", f"{figure['text']} {load}", ""]
        lines += ["| | median | min | max | pairs |", "|---|---:|---:|---:|---:|"]
        for row in figure["rows"]:
            values = (row["median"], min(row["values"]), max(row["values"]))
            numbers = [f"{value:.3g} {row['unit']}" for value in values]
            lines.append("| " + " | ".join([row["name"], *numbers, str(len(row["values"]))]) + " |")
    return "\n".join(lines) + "\n"
