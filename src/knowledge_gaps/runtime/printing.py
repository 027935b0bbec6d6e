"""Tables that a command prints: as wide as the terminal, unbroken in a pipe."""

from __future__ import annotations

import io
import sys

from rich.console import Console
from rich.table import Table

_UNBROKEN_WIDTH = 1000  # characters; a line in a pipe is as long as it needs to be


def make_table() -> Table:
    """Return a table of columns without lines between them."""
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")


def draw_table(table: Table) -> str:
    """Draw a table as lines of text, with the terminal's colours if standard output is one."""
    is_terminal = sys.stdout.isatty()
    text = io.StringIO()
    width = None if is_terminal else _UNBROKEN_WIDTH
    Console(file=text, width=width, force_terminal=is_terminal).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
