"""All figures of `make bench`, in about ten minutes: JSON and a page, by default in reports/.

    python benchmarks [--only FIGURE ...] [--quick] [--folder FOLDER]

Every figure is written as soon as it is measured; `--only` measures some anew and leaves the
others as they are. A machine that is busy with something else spoils them. `coverage.py` beside
this file is a command of its own: what intervals cover.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from cohorts import measure_classifiers, measure_gans
from evaluation import measure_evaluation
from fooling import measure_fooling
from idle import measure_idle
from measuring import PAGE_FILE, REPOSITORY, Effort, Figure, Results, describe_machine
from stylegan2 import measure_stylegan2

_LOAD_SEC = 2.0

FIGURES: dict[str, Callable[[Effort], Figure]] = {
    "gans": measure_gans,
    "classifiers": measure_classifiers,
    "fooling": measure_fooling,
    "evaluation": measure_evaluation,
    "stylegan2": measure_stylegan2,
    "idle": measure_idle,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, measure, write."""
    parser = argparse.ArgumentParser(prog="benchmarks", description="Measure all figures.")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), help="measure these alone")
    parser.add_argument(
        "--quick", action="store_true", help="one pair of tiny sizes each, without any meaning"
    )
    parser.add_argument(
        "--folder", type=Path, help="of the files; reports/, or a temporary one if --quick"
    )
    options = parser.parse_args(arguments)
    effort = Effort(1, is_quick=True) if options.quick else Effort()
    folder = options.folder or REPOSITORY / "reports"
    if options.quick and options.folder is None:
        folder = Path(tempfile.mkdtemp())
    results = Results(folder, describe_machine(), list(FIGURES), options.quick)
    for name in options.only or FIGURES:
        load, start = psutil.cpu_percent(0.1 if options.quick else _LOAD_SEC), time.monotonic()
        results.put(FIGURES[name](effort), load)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    print(folder / PAGE_FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
