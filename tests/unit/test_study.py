"""Reading a study: what is refused and in which words, and what YAML's two versions disagree on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import Kind, load_study
from knowledge_gaps.study.graph import get_cohorts, list_members, sort_nodes
from study_tools import REPOSITORY, SMOKE_FILE, change_params

CNN = yaml.safe_load(SMOKE_FILE.read_text(encoding="utf-8"))["classifier_recipes"]["cnn"]


@pytest.fixture
def path(smoke_root: Path) -> Path:
    return smoke_root / "params.yaml"


def replace_text(path: Path, before: str, after: str) -> None:
    """Change a study's text, so that YAML's own rules are at work."""
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")


def read_refusal(path: Path) -> str:
    with pytest.raises(UserError) as refusal:
        load_study(path)
    message = str(refusal.value)
    assert "\n" not in message
    return message


def pool(cohort: str, *instances: int, extends: str = "none") -> dict[str, Any]:
    return {"extends": extends, "cohort": cohort, "instances": list(instances)}


def fool(pool_name: str, phi: float = 1.0) -> dict[str, Any]:
    return {"recipe": "dcgan", "instances": 1, "fools": pool_name, "phi": phi}


def detect(recipe: str = "cnn") -> dict[str, Any]:
    return {"recipe": recipe, "instances": 1, "detects": "baseline_1"}


@pytest.mark.parametrize(
    "file", sorted((REPOSITORY / "settings").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_setting_loads_and_is_named_as_its_file(file: Path) -> None:
    study = load_study(file)
    assert study.study.name == file.stem
    sections = {node.partition("/")[0] for node in sort_nodes(study)}
    assert sections == {"gans", "classifiers", "pools"}


LONGER = pool("classifiers/iteration_0", 1, 0, extends="c0")
FOOL = "fool_all_1"
PHI, DCGAN = "gans.fool_all_1.phi", "gan_recipes.dcgan"
BETAS = f"{DCGAN}.generator_optimizer.betas"
ITERATION, C0 = "classifiers.iteration_0", "pools.c0"
SQUARES = {"name": "a", "source": "images", "directory": "a", "num_test": 9, "resolution_px": 12}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("surprise", 1, r"surprise: unknown key \(allowed: study, data, gan_recipes, "),
        ("gans.baseline.surprise", 1, r"surprise: unknown key \(allowed: recipe, instances, "),
        ("report.surprise", [], "report.surprise: unknown key"),
        ("study.seed", None, "study.seed: missing, and has no default"),
        ("study", {"name": "a", "sed": 0}, r"study.sed: unknown .*: name, seed, chains\).*2 more"),
        ("study.seed", "0", "study.seed: .*integer.*found '0'"),
        ("study.seed", True, "study.seed: .*integer.*found True"),
        ("study.seed", -1, "study.seed: .*greater than or equal to 0.*found -1"),
        ("study.name", "a/b", "study.name: letters, digits.*found 'a/b'"),
        ("data.num_dev", 0, "data.num_dev: .*or equal to 1.*found 0"),
        ("data.num_dev", 2.5, r"data.num_dev: .*integer.*found 2\.5"),
        ("data.source", "web", "data.source: .*'idx'.*'images' or 'dicebear'.*found 'web'"),
        ("gans", 3, "gans: .*valid dictionary.*found 3"),
        ("gans.baseline.instances", 0, r"gans.baseline.instances: .*or equal to 1.*found 0"),
        ("gans.baseline.instances", 2.0, r"gans.baseline.instances: .*integer.*found 2\.0"),
        (PHI, -0.5, r"gans.fool_all_1.phi: .*or equal to 0.*found -0\.5"),
        (PHI, float("nan"), "gans.fool_all_1.phi: .*found nan"),
        (PHI, float("inf"), "gans.fool_all_1.phi: .*a finite.*found inf"),
        (PHI, "1.0", r"gans.fool_all_1.phi: .*number.*found '1\.0'"),
        ("gans.fool_all_1.fooling", "mean", "fooling: .*'sum' or 'weighted'.*found 'mean'"),
        ("gans.baseline.phi", 1.0, r"gans.baseline: phi is 1\.0 but fools is 'none'"),
        ("classifiers.iteration_0.truncation", 1.5, "truncation: .*or equal to 1.*found 1.5"),
        (f"{DCGAN}.batch_size", 1, "gan_recipes.dcgan.batch_size: .*found 1"),
        (f"{DCGAN}.ema_decay", 1.0, "gan_recipes.dcgan.ema_decay: .*found 1"),
        (f"{DCGAN}.mixed_precision", "fp8", "mixed_precision: .*found 'fp8'"),
        (f"{DCGAN}.generator_optimizer.learning_rate", 0.0, "learning_rate: .*found 0"),
        (BETAS, [0.5], "generator_optimizer.betas"),
        (BETAS, [0.5, 1.0], r"betas\.1: .*found 1"),
        ("pools.c0.instances", [], "pools.c0.instances: "),
        ("pools.c0.instances", [-1], r"pools\.c0\.instances\.0: .*found -1"),
        ("pools.c0.instances", [1, 1], r"pools\.c0: instances \[1, 1\] names one twice"),
        ("pools.c0.cohort", "gan/baseline", "pools.c0: cohort is 'gan/baseline', gans/COHORT or"),
        ("pools.c0.cohort", "gans/../x", "pools.c0: cohort is 'gans/../x'"),
        ("evaluation.num_images", 15, "evaluation.num_images: .*or equal to 16.*found 15"),
        ("evaluation.perturbed_images", 8, "evaluation.perturbed_images: .*found 8"),
        ("evaluation.perturbations", "all", "evaluation.perturbations: .*list.*found 'all'"),
        ("evaluation.perturbations", ["a", "b", "a"], "perturbations: .*names one twice"),
        ("evaluation.controls", ["a", "a"], "evaluation.controls: .*names one twice"),
        ("gans.real", fool("none", 0.0), "gans.real: the tables use this name for the reals"),
        ("gans.real_train", fool("none", 0.0), "gans.real_train: the tables use this name"),
        ("gans.Baseline", fool("none", 0.0), "gans.Baseline in case only|baseline in case only"),
        ("pools.none", pool("gans/baseline", 0), "pools.none: "),
        ("data", SQUARES, "data: resolution_px is 12, a power of two is needed"),
        ("gans.baseline.recipe", "big", "gans.baseline.recipe: 'big' is not in gan_recipes "),
        (f"{ITERATION}.recipe", "x", r"recipe: 'x' is not in classifier_recipes \(known: cnn\)"),
        ("gans.fool_all_1.fools", "c9", "gans.fool_all_1.fools: 'c9' is not in pools "),
        ("gans.fool_all_1.fools", "baseline_1", "fools: pool 'baseline_1' holds gans, classif"),
        (f"{ITERATION}.detects", "c0", "detects: pool 'c0' holds classifiers, gans are needed"),
        (f"{ITERATION}.detects", "none", "iteration_0.detects: 'none' has no generators"),
        (f"{ITERATION}.detects", "x", "detects: 'x' is not in pools "),
        (C0, pool("classifiers/baseline", 0), "c0.cohort: 'baseline' is not in classifiers"),
        (f"{C0}.instances", [2], "c0.instances: 2 is not in classifiers/iteration_0, .* 0 to 1"),
        (f"{C0}.extends", "c7", "pools.c0.extends: 'c7' is not in pools"),
        (f"{C0}.extends", "baseline_1", "c0.extends: pool 'baseline_1' holds gans, classifiers"),
        (f"{C0}.extends", "c0", "pools/c0 -> pools/c0"),
        ("pools.longer", LONGER, "0 of classifiers/iteration_0 is in it twice, once through 'c0'"),
    ],
)
def test_value_is_refused_with_its_key(path: Path, key: str, value: object, message: str) -> None:
    change_params(path.parent, {key: value})
    refusal = read_refusal(path)
    assert refusal.startswith("params.yaml: ")
    assert re.search(message, refusal)


FIRST = {"gans": "baseline", "classifiers": "iteration_0"}
SWEEP = {**FIRST, "classifiers": ["iteration_0", "twin"]}


@pytest.mark.parametrize(
    ("reading", "value", "message"),
    [
        ("phi_sweep", ["x"], "phi_sweep.0: 'x' is not in gans"),
        ("phi_sweep", ["baseline", "baseline"], "phi_sweep: 'baseline' is in it twice"),
        ("memory", [{"gans": "baseline"}, {"gans": "x"}], "memory.1.gans: 'x' is not in gans"),
        ("memoryless", [{**FIRST, "classifiers": "x"}], "memoryless.0.classifiers: 'x' is not in"),
        ("iterations", [FIRST, {**FIRST, "gans": "fool_all_1"}], "s: 'iteration_0' is in it twice"),
        ("truncation", {"gans": "baseline", "classifiers": []}, "classifiers: List should have at"),
        ("truncation", SWEEP, "'iteration_0' and 'twin' have one value of truncation, 1.0"),
        ("generalisation", [SWEEP, SWEEP], "generalisation: 'iteration_0' is in it twice"),
        (
            "generalisation",
            [{**FIRST, "classifiers": ["iteration_0", "other"]}],
            "0.classifiers: one architecture is needed, iteration_0 is cnn, other is other",
        ),
        ("architectures", [FIRST], "'baseline' fools no classifier, classifiers/iteration_0 alone"),
        ("multi_instance", ["baseline"], "multi_instance: 'baseline' fools no classifier"),
        ("multi_instance", [FOOL, "fools_second"], "one value of classifiers in the loss, 1"),
        ("multi_instance", [FOOL, "fools_twin"], "one cohort are needed, .* classifiers/twin"),
        ("mutual_fooling", [FOOL], "one GAN cohort found, at least two are needed"),
        ("mutual_fooling", [FOOL, "fools_two"], "'fools_two' fools 2 classifiers, not one"),
        ("mutual_fooling", [FOOL, "fools_first"], "one value of the classifier in the loss, 0"),
    ],
)
def test_cohorts_that_make_no_reading_are_refused(
    path: Path, reading: str, value: object, message: str
) -> None:
    pools = {
        "first": pool("classifiers/iteration_0", 0),
        "second": pool("classifiers/iteration_0", 1),
        "two": pool("classifiers/iteration_0", 0, 1),
        "twin": pool("classifiers/twin", 0),
    }
    changes = {
        **{f"pools.{name}": entry for name, entry in pools.items()},
        **{f"gans.fools_{name}": fool(name) for name in pools},
        "classifier_recipes.other": {**CNN, "architecture": "other"},
        "classifiers.twin": detect(),
        "classifiers.other": detect("other"),
    }
    change_params(path.parent, changes)
    load_study(path)
    change_params(path.parent, {f"report.{reading}": value})
    assert re.search(message, read_refusal(path))


def test_circle_through_cohorts_is_told_round(path: Path) -> None:
    change_params(path.parent, {"gans.baseline.fools": "c0"})
    names = read_refusal(path).partition("itself: ")[2].split(" -> ")
    assert names[0] == names[-1]
    start = names.index("gans/baseline")
    circle = names[start:-1] + names[:start]
    assert circle == ["gans/baseline", "pools/c0", "classifiers/iteration_0", "pools/baseline_1"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("phi: 1.0", "phi: 1.0, phi: 2.0", 'duplicate key "phi"'),
        ("gans:", "gans: {}\ngans:", 'duplicate key "gans"'),
        ("phi: 1.0}", "phi: 1.0", "not valid YAML"),
        ("  name: smoke", "\tname: smoke", "not valid YAML"),
        ("  baseline: {", "  12: {", "gans.12: .*string"),
        ("name: smoke", "name: 2e1", "study.name: Input should be a valid string"),
    ],
)
def test_text_that_is_no_study_is_refused(
    path: Path, before: str, after: str, message: str
) -> None:
    replace_text(path, before, after)
    assert re.search(message, read_refusal(path))
    for content in (b"", b"[1]", b"word", b"\xff\xfe\x00", b"study: " + b"[" * 3000):
        path.write_bytes(content)
        assert "params.yaml" in read_refusal(path)
    assert "nested too deeply" in read_refusal(path)
    path.unlink()
    assert "params.yaml: missing; kgaps runs in the repository's root" in read_refusal(path)


@pytest.mark.parametrize(
    ("written", "number"), [("1e-3", 0.001), ("2.E+1", 20.0), ("5e2", 500.0), ("1", 1.0)]
)
def test_words_are_what_dvc_takes_them_for(path: Path, written: str, number: float) -> None:
    log_every = "    log_every: 8\n"
    replace_text(path, log_every, f"{log_every}    mixed_precision: no\n")
    replace_text(path, "name: smoke", "name: 1e3_study")
    replace_text(path, "phi: 1.0", f"phi: {written}")
    study = load_study(path)
    assert study.gans["fool_all_1"].phi == number
    assert (study.gan_recipes["dcgan"].mixed_precision, study.study.name) == ("no", "1e3_study")


def test_pools_and_nodes_are_in_order(path: Path) -> None:
    change_params(path.parent, {"pools.longer": {**LONGER, "instances": [1]}})
    study = load_study(path)
    both = [("classifiers/iteration_0", 0), ("classifiers/iteration_0", 1)]
    assert list_members(study, "longer") == both
    assert list_members(study, study.gans["baseline"].fools) == []
    assert list(get_cohorts(study, Kind.GANS)) == ["baseline", "fool_all_1"]
    chain = ["gans/baseline", "pools/baseline_1", "classifiers/iteration_0", "pools/c0"]
    assert [node for node in sort_nodes(study) if node in chain] == chain
