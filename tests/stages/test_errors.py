"""Damaged and missing inputs: exit 2, one line that names the file, no traceback and no result."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Refuse
from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.files import read_json, write_json
from study_tools import hash_tree, limit_file_size, run_stage, start_kgaps

GENERATOR = "models/gans/baseline/0/generator.safetensors"
CLASSIFIER = "models/classifiers/iteration_0/0/classifier.safetensors"
SAMPLES = "data/samples/baseline"
FOOLING = "models/gans/fool_all_1"
POOL = "models/pools/c0.json"
SAMPLE = "data/samples/fool_all_1/1.npy"
MEMBER = {"cohort": "classifiers/iteration_0"}


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_meta(path: Path, key: str, value: Any) -> None:
    """Change an entry of the meta.json beside a weights file."""
    file = path.parent / "meta.json"
    write_json(file, {**read_json(file), key: value})


def drop_tensor(path: Path) -> None:
    """Store other weights with a meta.json that knows them: only their names and sizes are off."""
    tensors = read_tensors(path)
    tensors.pop(sorted(tensors)[0])
    change_meta(path, "files", {path.name: write_tensors(path, tensors)})


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


# the command, what was to be made, the file that is damaged, how, and what the line must say
DAMAGES: list[tuple[str, str, str, Callable[[Path], Any], tuple[str, ...]]] = [
    ("samples", SAMPLES, GENERATOR, alter_one_byte, (GENERATOR, "truncated or altered")),
    ("samples", SAMPLES, GENERATOR, remove, (GENERATOR, "No such file")),
    ("samples", SAMPLES, GENERATOR, drop_tensor, (GENERATOR, "does not fit architecture")),
    (
        "samples",
        SAMPLES,
        GENERATOR,
        lambda path: change_meta(path, "image_shape", "28 px"),
        ("meta.json", "unpack"),
    ),
    (
        "gans fool_all_1",
        FOOLING,
        CLASSIFIER,
        alter_one_byte,
        ("gans/fool_all_1/0", CLASSIFIER, "truncated or altered"),
    ),
    ("gans fool_all_1", FOOLING, POOL, remove, (POOL, "No such file")),
    *(
        ("gans fool_all_1", FOOLING, POOL, lambda path, text=text: path.write_text(text), words)
        for text, words in {
            "{": (POOL, "not valid JSON"),
            "{}": (POOL, "members"),
            json.dumps({"members": [MEMBER]}): (POOL, "instance"),
        }.items()
    ),
    (
        "gans fool_all_1",
        FOOLING,
        "data/prepared",
        remove,
        ("data/prepared/train.npy: ", "No such file"),
    ),
    (
        "pools c0",
        POOL,
        "models/classifiers/iteration_0",
        remove,
        ("classifiers/iteration_0/0/meta.json", "No such file"),
    ),
    ("detections", "reports/detections.csv", SAMPLE, truncate, (SAMPLE,)),
    ("quality", "reports/quality.csv", SAMPLE, remove, (SAMPLE,)),
]


@pytest.mark.parametrize(("command", "result", "file", "damage", "words"), DAMAGES)
def test_damaged_input(
    trained_copy: Path,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    result: str,
    file: str,
    damage: Callable[[Path], Any],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    remove(trained_copy / result)
    damage(trained_copy / file)
    refuse(trained_copy, command, words, f"{result}/0.npy" if result == SAMPLES else result)


@pytest.mark.parametrize("command", ["gans", "classifiers", "pools"])
def test_unknown_name(trained_copy: Path, refuse: Refuse, command: str) -> None:
    refuse(trained_copy, f"{command} nobody", ("'nobody'", "known:"), "models/gans/nobody")


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("check", "models/pools/none.json"),
        ("prepare", "data/prepared"),
        ("detections", "reports/detections.csv"),
    ],
)
def test_file_cannot_grow(trained_copy: Path, refuse: Refuse, command: str, result: str) -> None:
    remove(trained_copy / result)
    with limit_file_size(16):
        refuse(trained_copy, command, ("cannot be written", "too large"), result)


def test_disk_is_full_while_sampling(
    trained_root: Path, trained_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # a process whose files cannot grow would leave half a file of a module that is new to Python
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    path = trained_copy / SAMPLE
    path.unlink()

    def limit() -> None:  # in the child: its workers inherit the limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    process = start_kgaps(trained_copy, "samples", preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err.count("\n")) == (2, 1), err
    assert "fool_all_1/1.npy: cannot be written" in err
    assert [entry.name for entry in path.parent.glob("*1.npy*")] == []
    run_stage(trained_copy, "samples")  # there is room again
    samples = Path("data") / "samples"
    assert hash_tree(trained_copy / samples) == hash_tree(trained_root / samples)
