"""What commands print: counted things, tables, and progress (on a terminal as bars)."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from knowledge_gaps.core.instance import Instance

_UNBROKEN_WIDTH = 1000  # characters; a line in a pipe is as long as it needs to be
_HEIGHT = 25  # lines; nothing depends on it
_LINE_SEC = 15.0


def count_words(count: int, noun: str, plural: str | None = None) -> str:
    """Write how many things there are: 1 pair, 2 pairs."""
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def make_table(*names: str, **options: Any) -> Table:
    """Return a table of columns without lines between them; options are of the middle ones."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column(names[0], no_wrap=True)
    for name in names[1:-1]:
        table.add_column(name, **options)
    table.add_column(names[-1], overflow="fold")
    return table


def draw_table(table: Table) -> str:
    """Draw a table as lines of text, with the terminal's colours if standard output is one.

    It is wider than the terminal where its words need more: nothing in it is cut.
    """
    text, is_terminal = io.StringIO(), sys.stdout.isatty()
    # without a height, rich takes 80 columns for a dumb terminal
    console = Console(file=text, force_terminal=is_terminal, width=_UNBROKEN_WIDTH, height=_HEIGHT)
    for column in table.columns:
        if column.no_wrap:  # rich takes the longest word for the least width of its lines
            column.min_width = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    width = max(shutil.get_terminal_size().columns, console.measure(table).minimum)
    console.print(table, width=width if is_terminal else None)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


@contextmanager
def track_instances(
    cohort: str, instances: Iterable[Instance], num_steps: int
) -> Iterator[Callable[[Instance, int, object], None]]:
    """Show the steps of a cohort's instances; yield an `execution.assignment.Callback`."""
    steps, is_terminal = dict.fromkeys(instances, 0), sys.stdout.isatty()
    started_at = said_at = time.monotonic()

    def say() -> None:
        done = " ".join(str(step) for step in steps.values())
        elapsed_sec = time.monotonic() - started_at
        print(f"{cohort}: steps {done} of {num_steps}, {elapsed_sec:.0f} s", flush=True)

    def report(instance: Instance, step: int, row: object) -> None:
        nonlocal said_at
        steps[instance] = step
        bars.update(tasks[instance], completed=step)
        if not is_terminal and time.monotonic() - said_at > _LINE_SEC:
            said_at = time.monotonic()
            say()

    with Progress(console=Console(), disable=not is_terminal) as bars:
        tasks = {each: bars.add_task(f"{cohort}/{each}", total=num_steps) for each in steps}
        yield report
    if not is_terminal:
        say()
