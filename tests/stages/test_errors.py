"""Bad params and damaged inputs: exit 2, one line that names the key or file, no result."""

from __future__ import annotations

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

GENERATOR = "models/gans/baseline/0/0/generator.safetensors"
CLASSIFIER = "models/classifiers/iteration_0/0/0/classifier.safetensors"
POOL = "models/pools/c0.json"
SAMPLE = "data/samples/fool_all_1/0/1.npy"
Damage, Words = Callable[[Path], object], tuple[str, ...]
DCGAN, CNN = "gan_recipes.dcgan", "classifier_recipes.cnn"
EARLY = {"num_images": 8, "check_every": 4, "patience": 1}

# an entry of params.yaml beyond what is told when it is read, and what the line must say beside it
BAD_PARAMS: list[tuple[str, Any, Words]] = [
    (
        "evaluation.extractor",
        "lenet5",
        ("'lenet5'", "one of inception, lenet, lenet_on_reals, random_vgg"),
    ),
    ("evaluation.extractor_weights", "a.pth", ("'a.pth' found", "'lenet' takes no file")),
    ("evaluation.judges", ["gray"], ("'gray'", "one of grey_levels, ")),
    ("evaluation.judges", ["steps", "steps"], ("evaluation.judges: names one twice",)),
    ("evaluation.judges", "steps", ("evaluation.judges", "'steps'")),
    ("evaluation.perturbations", ["none", "gamma"], ("'gamma'", "one of none, blur_0.4, ")),
    ("study.chains", 0, ("greater than or equal to 1", "found 0")),
    ("study.chains", 2.5, ("valid integer", "found 2.5")),
    ("evaluation.controls", ["pgd", "fgsm"], ("'fgsm'", "one of none, histogram, pgd")),
    ("study.chains", None, ("missing",)),  # DVC refuses a parameter that is not there
    ("report", None, ("missing",)),
    ("data.directory", "", ("no path", "found ''")),
    ("data.directory", "data/prepared/train", ("overlaps", "data/prepared")),
    ("data.directory", "./data", ("overlaps with data/",)),
    (f"{DCGAN}.architecture", "dcgam", ("'dcgam'", "known: dcgan")),
    (f"{DCGAN}.model.channels", [8, 8, 8], ("model.channels", "28x28 px", "multiple of 8")),
    (f"{DCGAN}.path_length_weight", 2.0, ("weight: 2.0", "'dcgan' has no styles", "0.0")),
    (f"{CNN}.translation_px", 28, ("translation_px: 28", "shorter side is 28 px")),
    (f"{CNN}.gradient_checkpointing", True, ("checkpointing: true", "'cnn' has no blocks")),
    (f"{CNN}.initialisation", "imagenet", ("initialisation", "'cnn'", "known: inception_v3")),
    (f"{CNN}.early_stopping", EARLY, ("held_out_generators: 1", "iteration_0", "pool of 1")),
]


@pytest.mark.parametrize(("key", "value", "words"), BAD_PARAMS)
def test_params(smoke_root: Path, refuse: Refuse, key: str, value: Any, words: Words) -> None:
    change_params(smoke_root, {key: value})
    section = ".".join(key.split(".")[:2])
    refuse(smoke_root, "check", ("params.yaml", section, *words), "models/pools/none.json")


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


def write(text: str) -> Damage:
    return lambda path: path.write_text(text)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


RESULTS = {
    "samples": "data/samples/baseline",
    "gans fool_all_1": "models/gans/fool_all_1",
    "pools c0": POOL,
    "detections": "reports/smoke/detections.csv",
    "quality": "reports/smoke/quality.csv",
    "judges": "reports/smoke/judges.csv",
}
# the command, the file that is damaged before, how, and what the line must say
DAMAGES: list[tuple[str, str, Damage, Words]] = [
    ("samples", GENERATOR, alter_one_byte, (GENERATOR, "truncated or altered")),
    ("samples", GENERATOR, remove, (GENERATOR, "No such file")),
    ("samples", GENERATOR, drop_tensor, (GENERATOR, "does not fit architecture")),
    (
        "samples",
        GENERATOR,
        lambda path: change_meta(path, "image_shape", "28 px"),
        ("meta.json", "unpack"),
    ),
    ("gans fool_all_1", CLASSIFIER, alter_one_byte, ("gans/fool_all_1/0/0", CLASSIFIER, "altered")),
    ("gans fool_all_1", POOL, remove, (POOL, "No such file")),
    ("gans fool_all_1", POOL, write("{"), (POOL, "not valid JSON")),
    ("gans fool_all_1", POOL, write("{}"), (POOL, "members")),
    ("gans fool_all_1", POOL, write('{"members": [{"cohort": "gans/a"}]}'), (POOL, "instance")),
    ("gans fool_all_1", "data/prepared", remove, ("data/prepared/train.npy: ", "No such file")),
    ("pools c0", CLASSIFIER.rpartition("/")[0], remove, ("0/meta.json", "No such file")),
    ("detections", SAMPLE, truncate, (SAMPLE,)),
    ("quality", SAMPLE, remove, (SAMPLE,)),
    ("judges", SAMPLE, truncate, (SAMPLE,)),
]


@pytest.mark.parametrize(("command", "file", "damage", "words"), DAMAGES)
@pytest.mark.usefixtures("one_worker")
def test_damaged_input(
    trained_copy: Path, refuse: Refuse, command: str, file: str, damage: Damage, words: Words
) -> None:
    remove(trained_copy / RESULTS[command])
    damage(trained_copy / file)
    made = RESULTS[command]
    refuse(trained_copy, command, words, f"{made}/0/0.npy" if command == "samples" else made)


@pytest.mark.parametrize("command", ["gans", "classifiers", "pools"])
def test_unknown_name(trained_copy: Path, refuse: Refuse, command: str) -> None:
    refuse(trained_copy, f"{command} nobody", ("'nobody'", "known:"), "models/gans/nobody")


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("check", "models/pools/none.json"),
        ("prepare", "data/prepared"),
        ("detections", "reports/smoke/detections.csv"),
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
    assert "fool_all_1/0/1.npy: cannot be written" in err
    assert [entry.name for entry in path.parent.glob("*1.npy*")] == []
    run_stage(trained_copy, "samples")  # there is room again
    samples = Path("data") / "samples"
    assert hash_tree(trained_copy / samples) == hash_tree(trained_root / samples)
