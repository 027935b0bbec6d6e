"""All figures of `make bench`, in half an hour: JSON and a page, by default in reports/.

    python benchmarks [--only FIGURE ...] [--quick] [--folder FOLDER]

Every figure is written as soon as it is measured; `--only` measures some anew and leaves the
others as they are. A machine that is busy with something else spoils them: torch's threads, which
the plain loops have by default, wait for each other. Longer scripts beside this file, such as
`stylegan2.py` and `evaluation.py`, go further into one thing each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from figures.cohorts import measure_classifiers, measure_gans
from figures.evaluation import measure_matrix
from figures.fooling import measure_fooling
from figures.growth import measure_growth
from figures.orchestration import measure_orchestration
from figures.side_by_side import measure_side_by_side
from figures.stylegan2 import measure_stylegan2
from measuring.machine import describe_load, describe_machine
from measuring.processes import REPOSITORY
from measuring.results import PAGE_FILE, Effort, Figure, Results

LEAST_TURNS = 5  # of results that are told

FIGURES: dict[str, Callable[[Effort], Figure]] = {
    "gans": measure_gans,
    "classifiers": measure_classifiers,
    "fooling": measure_fooling,
    "evaluation": measure_matrix,
    "stylegan2": measure_stylegan2,
    "orchestration": measure_orchestration,
    "side_by_side": measure_side_by_side,
    "growth": measure_growth,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure all figures.")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), help="measure these alone")
    parser.add_argument("--turns", type=int, default=LEAST_TURNS, help="pairs of a figure")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, without any meaning")
    parser.add_argument("--folder", type=Path, help="of the files; reports/, unless --quick")
    options = parser.parse_args(arguments)
    if options.folder is None and options.quick:
        parser.error("--quick needs --folder: its numbers are no results")
    if options.turns < 1:
        parser.error(f"--turns: {options.turns} found, at least 1 is needed")
    if options.folder is None and options.turns < LEAST_TURNS:
        parser.error(
            f"--turns: {options.turns} need --folder: results have at least {LEAST_TURNS} pairs"
        )
    folder = options.folder or REPOSITORY / "reports"
    effort = Effort(options.turns, options.quick)
    results = Results(folder, describe_machine(), list(FIGURES), options.quick)
    for name in options.only or FIGURES:
        print(f"{name} ...", flush=True)
        load, start = describe_load(), time.monotonic()
        results.put(FIGURES[name](effort), load)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    print(folder / PAGE_FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
