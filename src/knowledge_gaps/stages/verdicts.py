"""verdicts: compare the verdicts of two studies; writes no result."""

from __future__ import annotations

from pathlib import Path

from knowledge_gaps.findings.changes import ChangeKind, list_changes, read_verdicts, render


def run(before: Path, after: Path) -> bool:
    """Print the claims of two verdicts.json side by side.

    Returns:
        Whether no claim that both studies were asked has another verdict, threshold or measure.

    Raises:
        UserError: when a file is missing or something else.
    """
    changes = list_changes(read_verdicts(before), read_verdicts(after))
    print(render(changes))
    return all(change.kind is not ChangeKind.OTHER for change in changes)
