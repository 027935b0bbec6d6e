"""Bad input: exit 2, one line that names the key or file, no traceback and no result."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Refuse
from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.files import read_json, write_json
from study_tools import change_params, hash_tree, limit_file_size, run_stage, start_kgaps

GENERATOR = "models/gans/baseline/0/generator.safetensors"
CLASSIFIER = "models/classifiers/iteration_0/0/classifier.safetensors"
FOOLING = "models/gans/fool_all_1"
POOL = "models/pools/c0.json"


@pytest.fixture
def untrained_copy(trained_copy: Path) -> Path:
    """Return a study in which the GANs that are trained against the pool c0 are missing."""
    shutil.rmtree(trained_copy / FOOLING)
    return trained_copy


@pytest.mark.parametrize("command", ["gans", "classifiers", "pools"])
def test_unknown_name(trained_copy: Path, refuse: Refuse, command: str) -> None:
    refuse(trained_copy, f"{command} nobody", ("'nobody'", "known:"), "models/gans/nobody")


def test_unknown_device_is_refused(
    trained_copy: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(trained_copy / "data" / "samples" / "baseline")
    monkeypatch.setenv("KGAPS_DEVICE", "tpu")
    refuse(trained_copy, "samples", ("KGAPS_DEVICE", "tpu"), "data/samples/baseline")


# ------------------------------------------------------------------------------------ checkpoints


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def alter_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_meta(path: Path, key: str, value: Any) -> None:
    """Change an entry of the meta.json beside a weights file, given by its dotted key."""
    meta = read_json(path.parent / "meta.json")
    *sections, last = key.split(".")
    entry = meta
    for section in sections:
        entry = entry[section]
    entry[last] = value
    write_json(path.parent / "meta.json", meta)


def drop_tensor(path: Path) -> None:
    """Store other weights with a meta.json that knows them: only their names and sizes are off."""
    tensors = read_tensors(path)
    tensors.pop(sorted(tensors)[0])
    change_meta(path, "files", {path.name: write_tensors(path, tensors)})


DAMAGES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...]]] = {
    "truncated": (truncate, ("{file}", "truncated or altered")),
    "altered": (alter_one_byte, ("{file}", "truncated or altered")),
    "missing": (Path.unlink, ("{file}", "No such file")),
    "other weights": (drop_tensor, ("{file}", "does not fit architecture")),
    "no meta": (lambda path: (path.parent / "meta.json").unlink(), ("meta.json", "No such file")),
    "torn meta": (
        lambda path: truncate(path.parent / "meta.json"),
        ("meta.json", "not valid JSON"),
    ),
    "unknown architecture": (
        lambda path: change_meta(path, "architecture", "vit"),
        ("meta.json", "'vit'", "known:"),
    ),
    "other sizes": (
        lambda path: change_meta(path, "settings.model.channels", [16, 4]),
        ("{file}", "does not fit architecture"),
    ),
    "wrong shape": (
        lambda path: change_meta(path, "image_shape", "28 px"),
        ("meta.json", "unpack"),
    ),
    "other format": (lambda path: change_meta(path, "format", 2), ("meta.json", "2", "1")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_generator_checkpoint(trained_copy: Path, refuse: Refuse, damage: str) -> None:
    inflict, words = DAMAGES[damage]
    inflict(trained_copy / GENERATOR)
    shutil.rmtree(trained_copy / "data" / "samples" / "baseline")
    expected = tuple(word.format(file=GENERATOR) for word in words)
    refuse(trained_copy, "samples", expected, "data/samples/baseline/0.npy")


@pytest.mark.parametrize(
    ("inflict", "words"),
    [
        DAMAGES["altered"],
        DAMAGES["no meta"],
        DAMAGES["other sizes"],
        (
            lambda path: change_meta(path, "input_spec.input_px", "large"),
            ("meta.json", "input_px", "large"),
        ),
    ],
)
def test_classifier_checkpoint(
    untrained_copy: Path,
    refuse: Refuse,
    monkeypatch: pytest.MonkeyPatch,
    inflict: Callable[[Path], Any],
    words: tuple[str, ...],
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    inflict(untrained_copy / CLASSIFIER)
    expected = ("gans/fool_all_1/0", *(word.format(file=CLASSIFIER) for word in words))
    refuse(untrained_copy, "gans fool_all_1", expected, FOOLING)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "not valid JSON"),
        ("[]", "list"),
        ("{}", "members"),
        (json.dumps({"members": [{"cohort": "classifiers/iteration_0"}]}), "instance"),
    ],
)
def test_pool_is_damaged(untrained_copy: Path, refuse: Refuse, content: str, word: str) -> None:
    (untrained_copy / POOL).write_text(content)
    refuse(untrained_copy, "gans fool_all_1", ("c0.json", word), FOOLING)


def test_pool_was_not_made(untrained_copy: Path, refuse: Refuse) -> None:
    (untrained_copy / POOL).unlink()
    refuse(untrained_copy, "gans fool_all_1", ("c0.json", "No such file"), FOOLING)


def test_cohort_of_a_pool_was_not_trained(trained_copy: Path, refuse: Refuse) -> None:
    shutil.rmtree(trained_copy / "models" / "classifiers" / "iteration_0")
    (trained_copy / POOL).unlink()
    words = ("classifiers/iteration_0/0/meta.json", "No such file")
    refuse(trained_copy, "pools c0", words, POOL)


def test_reals_were_not_prepared(untrained_copy: Path, refuse: Refuse) -> None:
    shutil.rmtree(untrained_copy / "data" / "prepared")
    words = ("data/prepared/train.npy: ", "No such file")
    refuse(untrained_copy, "gans fool_all_1", words, FOOLING)


@pytest.mark.parametrize("command", ["detections", "quality"])
@pytest.mark.parametrize("damage", [Path.unlink, truncate], ids=["missing", "truncated"])
def test_sample_file(
    trained_copy: Path, refuse: Refuse, command: str, damage: Callable[[Path], Any]
) -> None:
    damage(trained_copy / "data" / "samples" / "fool_all_1" / "1.npy")
    (trained_copy / "reports" / f"{command}.csv").unlink()
    words = ("data/samples/fool_all_1/1.npy",)
    refuse(trained_copy, command, words, f"reports/{command}.csv")


def test_quality_of_too_few_reals(trained_copy: Path, refuse: Refuse) -> None:
    change_params(trained_copy, {"evaluation.num_images": 129})
    (trained_copy / "reports" / "quality.csv").unlink()
    words = ("evaluation.num_images", "129", "128")
    refuse(trained_copy, "quality", words, "reports/quality.csv")


# ------------------------------------------------------------------------------------ the machine


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("check", "models/pools/none.json"),
        ("prepare", "data/prepared"),
        ("detections", "reports/detections.csv"),
    ],
)
def test_file_cannot_grow(trained_copy: Path, refuse: Refuse, command: str, result: str) -> None:
    path = trained_copy / result
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with limit_file_size(16):
        refuse(trained_copy, command, ("cannot be written", "too large"), result)


def test_disk_is_full(trained_copy: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (trained_copy / POOL).unlink()
    monkeypatch.setattr(os, "fsync", fail)
    refuse(trained_copy, "pools c0", (POOL, "No space left on device"), POOL)


@pytest.fixture
def _no_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    # a process whose files cannot grow would leave half a file of a module that is new to Python
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.mark.usefixtures("_no_bytecode")
def test_disk_is_full_while_sampling(trained_root: Path, trained_copy: Path) -> None:
    path = trained_copy / "data" / "samples" / "fool_all_1" / "1.npy"
    path.unlink()

    def limit() -> None:  # in the child: its workers inherit the limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (8000, 8000))

    process = start_kgaps(trained_copy, "samples", preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    assert err.count("\n") == 1, err
    assert "fool_all_1/1.npy: cannot be written" in err
    assert [entry.name for entry in path.parent.glob("*1.npy*")] == []
    run_stage(trained_copy, "samples")  # there is room again
    samples = Path("data") / "samples"
    assert hash_tree(trained_copy / samples) == hash_tree(trained_root / samples)
