"""Progress of many stages: a live table on a terminal, otherwise lines."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from knowledge_gaps.orchestration.job import get_log_file, read_lines
from knowledge_gaps.orchestration.machine import Share
from knowledge_gaps.runtime.progress import Display

_LINE_SEC = 15.0
_TABLE_SEC = 0.5
_SHOWN_LINES = 12  # of what a failed stage said last
_PASSED_ON = "tracking: "  # lines of a good stage that the user should see


class StageShow(Display[Live]):
    """Shows running stages, with the last thing that each said, and how many are left.

    Args:
        root: the repository's root.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._running: dict[str, tuple[Share, float]] = {}
        self._began_at = self._said_at = time.monotonic()
        is_terminal = sys.stdout.isatty()
        super().__init__(Live(console=Console(), auto_refresh=False) if is_terminal else None)

    def finish(self, is_good: bool) -> None:
        """Take the table away: what is left to say is said in lines."""
        if self._drawing is not None:
            self._drawing.update(Text(""), refresh=True)

    def start(self, stage: str, share: Share) -> None:
        """Say that a stage starts."""
        self._running[stage] = share, time.monotonic()
        if self._drawing is None:
            self._say(f"{stage}: starts with {_describe(share)}")

    def end(self, stage: str, error: str | None) -> None:
        """Say that a stage ended; of a failed one, also what it said last."""
        _, started_at = self._running.pop(stage)
        lines = read_lines(get_log_file(self._root, stage))
        shown = [line for line in lines if line.startswith(_PASSED_ON)]
        if error is not None:
            shown = lines[-_SHOWN_LINES:]
        for line in shown:
            self._say(f"{stage} | {line}")
        outcome = "done" if error is None else "failed"
        self._say(f"{stage}: {outcome} after {time.monotonic() - started_at:.0f} s")

    def refresh(self, num_done: int, num_left: int) -> None:
        """Show how far all of it is, now and then."""
        interval_sec = _LINE_SEC if self._drawing is None else _TABLE_SEC
        if time.monotonic() - self._said_at < interval_sec:
            return
        self._said_at = time.monotonic()
        counts = f"{num_done} done, {len(self._running)} running, {num_left} left to do"
        elapsed = f"{self._said_at - self._began_at:.0f} s"
        if self._drawing is None:
            self._say("; ".join(f"{name}: {said}" for name, _, _, said in self._describe_running()))
            self._say(f"{counts}, {elapsed}")
        else:
            self._drawing.update(
                Group(self._make_table(), Text(f"{counts}, {elapsed}")), refresh=True
            )

    def _describe_running(self) -> list[tuple[str, str, str, str]]:
        """Tell of each running stage its name, share, time and the last line that it said."""
        rows = []
        for stage, (share, started_at) in self._running.items():
            lines = read_lines(get_log_file(self._root, stage))
            elapsed = f"{time.monotonic() - started_at:.0f} s"
            rows.append((stage, _describe(share), elapsed, lines[-1] if lines else "starting"))
        return rows

    def _make_table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for _ in range(3):
            table.add_column(no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for row in self._describe_running():
            table.add_row(*(Text(cell) for cell in row))
        return table

    def _say(self, line: str) -> None:
        if not line:
            return
        if self._drawing is None:
            print(line, flush=True)
        else:
            self._drawing.console.print(Text(line))


def _describe(share: Share) -> str:
    if share.gpus:
        return f"GPU {','.join(share.gpus)}"
    return "1 worker" if share.workers == 1 else f"{share.workers} workers"
