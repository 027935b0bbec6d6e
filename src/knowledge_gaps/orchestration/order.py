"""dvc.lock and DVC's .gitignore files in the order in which a serial run would have left them.

DVC appends a stage that is new to dvc.lock when it ends, and its outputs to a .gitignore. So what
was there before stands first, as it stood; then comes what is new, in the order of `dvc repro`. A
note of the former is kept until all is done, so that a run that was killed ends in the same files.
All of it is read and written under DVC's lock.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from knowledge_gaps.orchestration.guard import hold_dvc
from knowledge_gaps.orchestration.job import get_repro_directory
from knowledge_gaps.runtime.dvc_lock import LOCK_FILE, parse_stages, read_lock_text
from knowledge_gaps.runtime.files import read_json, write_json, write_text
from knowledge_gaps.runtime.signals import StopFlag

_NOTE_FILE = "order.json"
_IGNORE_FILE = ".gitignore"


def read_outputs(root: Path, stop: StopFlag) -> dict[str, Any]:
    """Read what dvc.lock records of the outputs of each stage, in the file's order.

    Raises:
        StoppedError: when the process was told to stop while another DVC was busy.
        UserError: when dvc.lock is damaged.
    """
    with hold_dvc(root, stop):
        return _read_outputs(root)


def note_order(root: Path, stop: StopFlag) -> None:
    """Note the order before a run, unless the note of an unfinished one is there.

    Raises as `read_outputs`.
    """
    note = _get_note(root)
    if note.exists():
        return
    with hold_dvc(root, stop):
        ignored = {file.relative_to(root).as_posix(): _read_lines(file) for file in _find(root)}
        write_json(note, {"stages": list(_read_outputs(root)), "ignored": ignored})


def restore_order(root: Path, order: Sequence[str], is_finished: bool, stop: StopFlag) -> None:
    """Bring the files into the order of a serial run, if one was noted.

    Args:
        root: the repository's root.
        order: of `dvc repro`.
        is_finished: nothing is left, so that the note can go.
        stop: once it is set, nobody waits for another DVC.

    Raises as `read_outputs`.
    """
    note = _get_note(root)
    if not note.exists():
        return
    before = read_json(note)
    with hold_dvc(root, stop):
        outputs = _read_outputs(root)
        stages = sort_after(before["stages"], order, outputs)
        if stages != list(outputs):
            _write_order(root, stages)
        for file, serial in _find_managed(root, order, outputs).items():
            noted = before["ignored"].get(file.relative_to(root).as_posix(), [])
            lines = _read_lines(file)
            sorted_lines = sort_in_place(noted, serial, lines)
            if sorted_lines != lines:
                write_text(file, "\n".join(sorted_lines))
    if is_finished:
        note.unlink()


def is_order_noted(root: Path) -> bool:
    """Tell whether a run did not come to its end."""
    return _get_note(root).exists()


def sort_after(before: Iterable[str], order: Iterable[str], present: Iterable[str]) -> list[str]:
    """Sort names: those that were there before, then the others in an order, then the unknown."""
    left = dict.fromkeys(present)
    ranked = dict.fromkeys(name for name in (*before, *order) if name in left)
    return [*ranked, *(name for name in left if name not in ranked)]


def sort_in_place(before: Iterable[str], own: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Sort the lines of a file that are DVC's own; all others stay in their places.

    Args:
        before: lines that were there before, in their order.
        own: DVC's lines in the order of a serial run.
        lines: of the file now.
    """
    known = set(own)
    ranks = {line: rank for rank, line in enumerate(sort_after(before, own, own))}
    ranked = iter(sorted((line for line in lines if line in known), key=ranks.__getitem__))
    return [next(ranked) if line in known else line for line in lines]


def _get_note(root: Path) -> Path:
    return get_repro_directory(root) / _NOTE_FILE


def _read_outputs(root: Path) -> dict[str, Any]:
    path = root / LOCK_FILE
    stages = parse_stages(read_lock_text(path) if path.exists() else "")
    return {name: stages[name].get("outs", []) for name in stages}


def _find(root: Path) -> list[Path]:
    """Find the .gitignore files that may lie beside outputs, in folders and folders of those."""
    return sorted(path for start in ("*", "*/*") for path in root.glob(f"{start}/{_IGNORE_FILE}"))


def _find_managed(
    root: Path, order: Sequence[str], outputs: Mapping[str, Any]
) -> dict[Path, list[str]]:
    """Find the .gitignore files beside outputs, with DVC's lines in the order of a serial run."""
    managed: dict[Path, list[str]] = {}
    for stage in order:
        for out in outputs.get(stage, []):
            path = root / out["path"]
            managed.setdefault(path.with_name(_IGNORE_FILE), []).append(f"/{path.name}")
    return {file: managed[file] for file in sorted(managed) if file.is_file()}


def _read_lines(path: Path) -> list[str]:
    """Split a file so that joining its lines gives the same bytes again."""
    return path.read_bytes().decode("utf-8").split("\n")


def _write_order(root: Path, stages: Sequence[str]) -> None:
    """Write the stages of dvc.lock in an order, by DVC's own writer."""
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    # written in place: a second Ctrl-C, which no longer asks but interrupts, has to wait
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with Repo(str(root)) as repo, repo.scm_context():
            with modify_yaml(str(root / LOCK_FILE)) as content:
                found = content["stages"]
                content["stages"] = {name: found[name] for name in stages}
            repo.scm_context.track_file(LOCK_FILE)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
