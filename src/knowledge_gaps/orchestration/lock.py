"""dvc.lock and DVC's .gitignore files in the order in which a serial run would have left them.

DVC appends a stage that is new to dvc.lock when it ends, and its outputs to a .gitignore. So what
was there before stands first, as it stood; then comes what is new, in the order of `dvc repro`. A
note of the former is kept until all is done, so that a run that was killed ends in the same files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from knowledge_gaps.orchestration.job import get_log_directory
from knowledge_gaps.runtime.files import read_json, write_json, write_text

LOCK_FILE = "dvc.lock"
_NOTE_FILE = "order.json"


def read_outputs(root: Path) -> dict[str, Any]:
    """Read what dvc.lock records of the outputs of each stage, in the file's order."""
    path = root / LOCK_FILE
    if not path.exists():
        return {}
    content = YAML(typ="safe").load(path.read_text(encoding="utf-8")) or {}
    stages = content.get("stages") or {}
    return {name: stages[name].get("outs", []) for name in stages}


def note_order(root: Path) -> None:
    """Note the order before a run, unless the note of an unfinished one is there."""
    note = _get_note(root)
    if not note.exists():
        ignored = {file.relative_to(root).as_posix(): _read_lines(file) for file in _find(root)}
        write_json(note, {"stages": list(read_outputs(root)), "ignored": ignored})


def restore_order(root: Path, order: Sequence[str], is_finished: bool) -> None:
    """Bring the files into the order of a serial run, if one was noted.

    Args:
        root: the repository's root.
        order: of `dvc repro`.
        is_finished: nothing is left, so that the note can go.
    """
    note = _get_note(root)
    if not note.exists():
        return
    before, outputs = read_json(note), read_outputs(root)
    stages = sort_after(before["stages"], order, outputs)
    if stages != list(outputs):
        _write_order(root, stages)
    paths = [Path(out["path"]) for stage in order for out in outputs.get(stage, [])]
    for file in _find(root):
        name, lines = file.relative_to(root).as_posix(), _read_lines(file)
        serial = [f"/{path.name}" for path in paths if (root / path).parent == file.parent]
        sorted_lines = sort_after(before["ignored"].get(name, []), serial, lines)
        if sorted_lines != lines:
            write_text(file, "".join(f"{line}\n" for line in sorted_lines))
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


def _get_note(root: Path) -> Path:
    return get_log_directory(root) / _NOTE_FILE


def _find(root: Path) -> list[Path]:
    """Find the .gitignore files beside outputs, which lie in folders and folders of those."""
    return sorted([*root.glob("*/.gitignore"), *root.glob("*/*/.gitignore")])


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _write_order(root: Path, stages: Sequence[str]) -> None:
    """Write the stages of dvc.lock in an order, by DVC's own writer and under DVC's lock."""
    from dvc.repo import Repo
    from dvc.utils.serialize import modify_yaml

    with Repo(str(root)) as repo, repo.lock, repo.scm_context():
        with modify_yaml(str(root / LOCK_FILE)) as content:
            found = content["stages"]
            content["stages"] = {name: found[name] for name in stages}
        repo.scm_context.track_file(LOCK_FILE)
