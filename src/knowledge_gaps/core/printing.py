"""What commands print: tables as wide as the terminal, unbroken in a pipe, and counted things."""

from __future__ import annotations

import io
import sys

from rich.cells import cell_len
from rich.console import Console, ConsoleDimensions
from rich.table import Table

_UNBROKEN_WIDTH = 1000  # characters; a line in a pipe is as long as it needs to be
_HEIGHT = 25  # lines; nothing depends on it


def count_words(count: int, noun: str, plural: str | None = None) -> str:
    """Write how many things there are: 1 pair, 2 pairs.

    Args:
        count: of the things.
        noun: what one of them is called.
        plural: what several are called; the noun with an s if None.
    """
    return f"{count} {noun if count == 1 else plural or f'{noun}s'}"


def make_table() -> Table:
    """Return a table of columns without lines between them."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def draw_table(table: Table) -> str:
    """Draw a table as lines of text, with the terminal's colours if standard output is one.

    A table is as wide as the terminal, but where its words or columns that do not wrap need more:
    nothing in it is cut, and there is no sign of a cut, which a terminal may not be able to write.
    """
    is_terminal = sys.stdout.isatty()
    text = io.StringIO()
    console = Console(file=text, force_terminal=is_terminal)
    width = console.width if is_terminal else _UNBROKEN_WIDTH
    for column in table.columns:
        if column.no_wrap:  # rich takes the longest word for the least width of its lines
            column.min_width = max(cell_len(str(cell)) for cell in (column.header, *column.cells))
    # a size is both numbers: without a height, rich takes 80 columns for a dumb terminal
    console.size = ConsoleDimensions(_UNBROKEN_WIDTH, _HEIGHT)
    needed = console.measure(table).minimum
    console.size = ConsoleDimensions(max(width, needed), _HEIGHT)
    console.print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
