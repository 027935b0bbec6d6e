"""Bad input: exit 2, one line that names the key or file, no traceback and no result."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from knowledge_gaps.core.checkpoint import read_tensors, write_tensors
from knowledge_gaps.core.files import hash_file, read_json, write_json
from knowledge_gaps.data.idx import write_idx
from knowledge_gaps.data.source import CHECKSUMS_FILE, IMAGE_FILES, LABEL_FILES
from study_tools import change_params, hash_tree, limit_file_size, run_stage, start_kgaps

RunKgaps = Callable[..., Any]
Refuse = Callable[..., None]

TRAIN_IMAGES = f"{IMAGE_FILES['train']}.gz"
GENERATOR = "models/gans/baseline/0/generator.safetensors"
CLASSIFIER = "models/classifiers/iteration_0/0/classifier.safetensors"

# what is changed in params.yaml, and what the line must say
BAD_PARAMS: list[tuple[Mapping[str, Any], tuple[str, ...]]] = [
    ({"gans.baseline.colour": 1}, ("gans.baseline.colour", "unknown key")),
    ({"gan_recipes.dcgan.stesp": 9}, ("gan_recipes.dcgan.stesp", "unknown key")),
    ({"gan_recipes.dcgan.steps": "many"}, ("gan_recipes.dcgan.steps", "'many'", "integer")),
    ({"gan_recipes.dcgan.steps": 2.5}, ("gan_recipes.dcgan.steps", "2.5", "integer")),
    ({"gan_recipes.dcgan.steps": 0}, ("gan_recipes.dcgan.steps", "found 0", "1")),
    ({"gan_recipes.dcgan.steps": None}, ("gan_recipes.dcgan.steps", "missing")),
    ({"gan_recipes.dcgan.mixed_precision": "fp8"}, ("mixed_precision", "'fp8'", "'bf16'")),
    ({"gans.baseline.instances": 0}, ("gans.baseline.instances", "found 0", "1")),
    ({"gans.baseline.instances": True}, ("gans.baseline.instances", "True", "integer")),
    ({"gans.fool_all_1.phi": -1.0}, ("gans.fool_all_1.phi", "-1", "0")),
    ({"gans.fool_all_1.phi": float("nan")}, ("gans.fool_all_1.phi", "nan")),
    ({"gans.fool_all_1.phi": float("inf")}, ("gans.fool_all_1.phi", "inf", "finite")),
    ({"gans.baseline.phi": 0.5}, ("gans.baseline", "0.5", "none")),
    ({"gans.fool_all_1.fools": "c9"}, ("gans.fool_all_1.fools", "'c9'", "known:", "c0")),
    ({"gans.fool_all_1.fools": "baseline_1"}, ("gans.fool_all_1.fools", "'baseline_1'", "gans")),
    ({"gans.fool_all_1.recipe": "gan"}, ("gans.fool_all_1.recipe", "'gan'", "known: dcgan")),
    ({"classifiers.iteration_0.detects": "none"}, ("classifiers.iteration_0.detects", "'none'")),
    ({"pools.c0.instances": [2]}, ("pools.c0.instances", "2", "0 to 1")),
    ({"pools.c0.instances": [0, 0]}, ("pools.c0", "[0, 0]", "twice")),
    ({"pools.c0.cohort": "iteration_0"}, ("pools.c0", "'iteration_0'", "classifiers/COHORT")),
    ({"pools.c0.extends": "c0"}, ("stands on itself", "pools/c0 -> pools/c0")),
    (
        {"pools.baseline_1.cohort": "gans/fool_all_1"},
        ("stands on itself", "gans/fool_all_1", "pools/c0", "classifiers/iteration_0"),
    ),
    ({"report.phi_sweep": ["phi_9"]}, ("report.phi_sweep.0", "'phi_9'", "known:")),
    ({"evaluation": None}, ("evaluation", "missing")),
    ({"report": None}, ("report", "missing")),  # DVC refuses a section that is not there
    ({"gans.baseline.instances": 10**10}, ("gans.baseline.instances", "10000000000", "10000")),
    ({"data.directory": ""}, ("data.directory", "no path", "found ''")),
    ({"data.directory": "a\0b"}, ("data.directory", "no path")),
    ({"data.directory": "data/prepared/train"}, ("data.directory", "overlaps", "data/prepared")),
    ({"data.directory": "./data"}, ("data.directory", "overlaps with data/")),
    ({"data.directory": "../.."}, ("data.directory", "overlaps")),
    ({"gans": []}, ("gans", "dictionary")),
    ({"gan_recipes.dcgan.architecture": "dcgam"}, ("gan_recipes.dcgan", "'dcgam'", "known: dcgan")),
    ({"gan_recipes.dcgan.model.depth": 3}, ("gan_recipes.dcgan", "depth", "unknown key")),
    ({"classifier_recipes.cnn.model.channels": []}, ("classifier_recipes.cnn", "channels", "1")),
    (
        {"gan_recipes.dcgan.model.channels": [8, 8, 8]},
        ("gan_recipes.dcgan", "model.channels", "28x28 px", "multiple of 8"),
    ),
    (
        {"classifier_recipes.cnn.translation_px": 28},
        ("classifier_recipes.cnn: translation_px: 28", "shorter side is 28 px"),
    ),
    (
        {"gan_recipes.dcgan.path_length_weight": 2.0},
        ("gan_recipes.dcgan: path_length_weight", "2.0", "'dcgan' has no styles", "0.0"),
    ),
    (
        {"classifier_recipes.cnn.gradient_checkpointing": True},
        ("classifier_recipes.cnn: gradient_checkpointing", "true", "'cnn' has no blocks", "false"),
    ),
    (
        {"classifier_recipes.cnn.initialisation": "imagenet"},
        ("classifier_recipes.cnn: initialisation", "'imagenet'", "'cnn'", "known: inception_v3"),
    ),
    (
        {
            "classifier_recipes.cnn.architecture": "resnet50",
            "classifier_recipes.cnn.model": {"width_divisor": 4},
            "classifier_recipes.cnn.initialisation": "imagenet",
        },
        ("classifier_recipes.cnn: initialisation", "width_divisor 1", "found 4"),
    ),
    (
        {
            "classifier_recipes.cnn.architecture": "resnet50",
            "classifier_recipes.cnn.model": {},
            "classifier_recipes.cnn.initialisation": "imagenet",
            "classifier_recipes.cnn.initial_weights": "absent.pth",
        },
        ("initial_weights", "absent.pth is missing", "resnet50-11ad3fa6.pth", "downloaded"),
    ),
    (
        {
            "classifier_recipes.cnn.early_stopping": {
                "num_images": 8,
                "check_every": 4,
                "patience": 1,
            }
        },
        ("cnn.early_stopping.held_out_generators: 1", "classifiers.iteration_0", "pool of 1"),
    ),
]


@pytest.fixture
def refuse(run_kgaps: RunKgaps) -> Refuse:
    """Return a function that asserts how a call of the command line is refused.

    It takes the root, the arguments of the command line, what the one line must say, and the path
    of the result that must not be there afterwards.
    """

    def assert_refused(root: Path, arguments: str, words: tuple[str, ...], result: str) -> None:
        outcome = run_kgaps(root, *arguments.split())
        assert outcome.code == 2, outcome
        assert outcome.err.startswith("kgaps: "), outcome.err
        assert outcome.err.count("\n") == 1, outcome.err
        missing = [word for word in words if word not in outcome.err]
        assert not missing, outcome.err
        assert not (root / result).exists()
        assert not list(root.glob(f"{Path(result).parent}/.*.tmp"))

    return assert_refused


@pytest.mark.parametrize(("changes", "words"), BAD_PARAMS, ids=lambda value: next(iter(value)))
def test_params(
    smoke_root: Path, refuse: Refuse, changes: Mapping[str, Any], words: tuple[str, ...]
) -> None:
    change_params(smoke_root, changes)
    refuse(smoke_root, "check", ("params.yaml", *words), "models/pools/none.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("study: [", ("not valid YAML",)),
        ("", ("the whole file",)),
        ("study:\n  seed: 0\n  seed: 1\n", ('"seed"', "duplicate")),
        ("study: " + "[" * 3000, ("nested too deeply",)),
    ],
    ids=["syntax", "empty", "key twice", "deep"],
)
def test_params_file(smoke_root: Path, refuse: Refuse, text: str, words: tuple[str, ...]) -> None:
    (smoke_root / "params.yaml").write_text(text)
    refuse(smoke_root, "check", ("params.yaml", *words), "models/pools/none.json")


def test_params_file_is_missing(smoke_root: Path, refuse: Refuse) -> None:
    (smoke_root / "params.yaml").unlink()
    refuse(smoke_root, "check", ("params.yaml", "missing"), "models/pools/none.json")


@pytest.mark.parametrize("command", ["gans", "classifiers", "pools"])
def test_unknown_name(trained_copy: Path, refuse: Refuse, command: str) -> None:
    refuse(trained_copy, f"{command} nobody", ("'nobody'", "known:"), "models/gans/nobody")


def test_no_traceback_of_the_real_process(smoke_root: Path) -> None:
    change_params(smoke_root, {"gans.fool_all_1.phi": -1.0})
    process = start_kgaps(smoke_root, "check")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert "gans.fool_all_1.phi" in err
    assert out == ""


# ------------------------------------------------------------------------------------------ reals


@pytest.fixture
def data_root(smoke_root: Path) -> Path:
    """Return a study whose reals are a few random images in a folder of their own."""
    directory = smoke_root / "data" / "few"
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 16)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(directory / f"{IMAGE_FILES[split]}.gz", images)
        labels = random.integers(0, 10, count, dtype=np.uint8)
        write_idx(directory / f"{LABEL_FILES[split]}.gz", labels)
    list_checksums(directory)
    changes = {
        "data.directory": "data/few",
        "data.num_train": 24,
        "data.num_test": 16,
        "evaluation.num_images": 16,
    }
    change_params(smoke_root, changes)
    return smoke_root


def list_checksums(directory: Path) -> None:
    """Write the checksums of a folder's files as they are now."""
    files = sorted(directory.glob("*.gz"))
    write_json(directory / CHECKSUMS_FILE, {path.name: hash_file(path) for path in files})


def refuse_data(root: Path, refuse: Refuse, *words: str) -> None:
    refuse(root, "prepare", words, "data/prepared")


def test_few_reals_are_fine_as_they_are(data_root: Path, run_kgaps: RunKgaps) -> None:
    assert run_kgaps(data_root, "prepare").code == 0
    assert (data_root / "data" / "prepared" / "dataset.json").exists()


@pytest.mark.parametrize(("key", "split"), [("num_train", "training"), ("num_test", "test")])
def test_too_few_reals_are_refused_before_training(
    data_root: Path, refuse: Refuse, key: str, split: str
) -> None:
    change_params(data_root, {f"data.{key}": 15, "evaluation.num_images": 16})
    refuse_data(data_root, refuse, "evaluation.num_images", f"the {split} split has 15")


def test_images_without_a_pixel_are_refused(data_root: Path, refuse: Refuse) -> None:
    directory = data_root / "data" / "few"
    write_idx(directory / f"{IMAGE_FILES['train']}.gz", np.zeros((0, 28, 28), np.uint8))
    write_idx(directory / f"{LABEL_FILES['train']}.gz", np.zeros(0, np.uint8))
    list_checksums(directory)
    change_params(data_root, {"data.num_train": None})
    refuse_data(data_root, refuse, "data/few", "hold no pixel")


def test_unknown_device_is_refused(
    trained_copy: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(trained_copy / "data" / "samples" / "baseline")
    monkeypatch.setenv("KGAPS_DEVICE", "tpu")
    refuse(trained_copy, "samples", ("KGAPS_DEVICE", "tpu"), "data/samples/baseline")


def test_data_file_is_missing(data_root: Path, refuse: Refuse) -> None:
    (data_root / "data" / "few" / TRAIN_IMAGES).unlink()
    refuse_data(data_root, refuse, IMAGE_FILES["train"], "missing")


def test_data_checksums_are_missing(data_root: Path, refuse: Refuse) -> None:
    (data_root / "data" / "few" / CHECKSUMS_FILE).unlink()
    refuse_data(data_root, refuse, CHECKSUMS_FILE, "missing")


def test_data_file_is_not_listed(data_root: Path, refuse: Refuse) -> None:
    write_json(data_root / "data" / "few" / CHECKSUMS_FILE, {})
    refuse_data(data_root, refuse, CHECKSUMS_FILE, "does not list", TRAIN_IMAGES)


def test_data_of_wrong_checksum(data_root: Path, refuse: Refuse) -> None:
    path = data_root / "data" / "few" / TRAIN_IMAGES
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refuse_data(data_root, refuse, TRAIN_IMAGES, "wrong checksum", hash_file(path))


def test_data_with_bad_magic(data_root: Path, refuse: Refuse) -> None:
    directory = data_root / "data" / "few"
    (directory / TRAIN_IMAGES).write_bytes(b"PNG, or so" * 9)
    list_checksums(directory)
    refuse_data(data_root, refuse, TRAIN_IMAGES, "bad magic number", "000008xx")


def test_data_gzip_is_truncated(data_root: Path, refuse: Refuse) -> None:
    directory = data_root / "data" / "few"
    content = (directory / TRAIN_IMAGES).read_bytes()
    (directory / TRAIN_IMAGES).write_bytes(content[: len(content) // 2])
    list_checksums(directory)
    refuse_data(data_root, refuse, TRAIN_IMAGES, "truncated")


def test_data_splits_do_not_fit(data_root: Path, refuse: Refuse) -> None:
    directory = data_root / "data" / "few"
    write_idx(directory / f"{LABEL_FILES['train']}.gz", np.zeros(23, np.uint8))
    list_checksums(directory)
    refuse_data(data_root, refuse, "data/few", "(24, 28, 28)", "(23,)")


def test_data_has_too_few_images(data_root: Path, refuse: Refuse) -> None:
    change_params(data_root, {"data.num_train": 25})
    refuse_data(data_root, refuse, "data.num_train", "25", "24")


def test_full_set_of_wrong_values(data_root: Path, refuse: Refuse) -> None:
    change_params(data_root, {"data.source": "idx"})
    refuse_data(data_root, refuse, TRAIN_IMAGES, "wrong checksum", "'mnist'")


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
    "settings without model": (
        lambda path: change_meta(path, "settings", {}),
        ("meta.json", "model"),
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


def test_generator_of_a_cohort_that_was_not_trained(smoke_root: Path, refuse: Refuse) -> None:
    words = ("models/gans/baseline/0/generator.safetensors", "cannot be read")
    refuse(smoke_root, "samples", words, "data/samples")


@pytest.mark.parametrize("damage", sorted(DAMAGES.keys() - {"wrong shape", "other weights"}))
def test_classifier_checkpoint(
    trained_copy: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    inflict, words = DAMAGES[damage]
    inflict(trained_copy / CLASSIFIER)
    shutil.rmtree(trained_copy / "models" / "gans" / "fool_all_1")
    expected = ("gans/fool_all_1/0", *(word.format(file=CLASSIFIER) for word in words))
    refuse(trained_copy, "gans fool_all_1", expected, "models/gans/fool_all_1")


def test_classifier_spec_is_damaged(
    trained_copy: Path, refuse: Refuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KGAPS_WORKERS", "1")
    change_meta(trained_copy / CLASSIFIER, "input_spec.input_px", "large")
    shutil.rmtree(trained_copy / "models" / "gans" / "fool_all_1")
    words = ("meta.json", "input_px", "large")
    refuse(trained_copy, "gans fool_all_1", words, "models/gans/fool_all_1")


def test_detections_of_an_altered_classifier(trained_copy: Path, refuse: Refuse) -> None:
    alter_one_byte(trained_copy / CLASSIFIER)
    (trained_copy / "reports" / "detections.csv").unlink()
    refuse(
        trained_copy, "detections", (CLASSIFIER, "truncated or altered"), "reports/detections.csv"
    )


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "not valid JSON"),
        ("[]", "list"),
        ("{}", "members"),
        (json.dumps({"members": [{"cohort": "classifiers/iteration_0"}]}), "instance"),
    ],
)
def test_pool_is_damaged(trained_copy: Path, refuse: Refuse, content: str, word: str) -> None:
    (trained_copy / "models" / "pools" / "c0.json").write_text(content)
    shutil.rmtree(trained_copy / "models" / "gans" / "fool_all_1")
    refuse(trained_copy, "gans fool_all_1", ("c0.json", word), "models/gans/fool_all_1")


def test_pool_was_not_made(trained_copy: Path, refuse: Refuse) -> None:
    (trained_copy / "models" / "pools" / "c0.json").unlink()
    shutil.rmtree(trained_copy / "models" / "gans" / "fool_all_1")
    words = ("c0.json", "No such file")
    refuse(trained_copy, "gans fool_all_1", words, "models/gans/fool_all_1")


def test_cohort_of_a_pool_was_not_trained(trained_copy: Path, refuse: Refuse) -> None:
    shutil.rmtree(trained_copy / "models" / "classifiers" / "iteration_0")
    (trained_copy / "models" / "pools" / "c0.json").unlink()
    words = ("classifiers/iteration_0/0/meta.json", "No such file")
    refuse(trained_copy, "pools c0", words, "models/pools/c0.json")


def test_reals_were_not_prepared(trained_copy: Path, refuse: Refuse) -> None:
    shutil.rmtree(trained_copy / "data" / "prepared")
    shutil.rmtree(trained_copy / "models" / "gans" / "baseline")
    words = ("data/prepared/train: ", "No such file")
    refuse(trained_copy, "gans baseline", words, "models/gans/baseline")


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
        ("pools c0", "models/pools/c0.json"),
        ("detections", "reports/detections.csv"),
        ("quality", "reports/quality.csv"),
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

    path = trained_copy / "models" / "pools" / "c0.json"
    path.unlink()
    monkeypatch.setattr(os, "fsync", fail)
    words = (str(path), "No space left on device")
    refuse(trained_copy, "pools c0", words, "models/pools/c0.json")


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
