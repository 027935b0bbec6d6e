"""Reading a study: what is refused and in which words, and what YAML's two versions disagree on."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.study import Kind, Study, load_study
from knowledge_gaps.study.graph import get_cohorts, list_members, sort_nodes
from knowledge_gaps.study.presets import list_presets, use_preset

ROOT = Path(__file__).parents[2]
SMOKE = ROOT / "settings" / "smoke.yaml"
CONTENT: dict[str, Any] = yaml.safe_load(SMOKE.read_text(encoding="utf-8"))
OTHER_RECIPE = {**CONTENT["classifier_recipes"]["cnn"], "architecture": "other"}
REMOVED = object()


def write_study(directory: Path, changes: dict[str, Any]) -> Path:
    """Write the smoke study with some keys changed, given as "section.key.key"."""
    content = copy.deepcopy(CONTENT)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section = section[name]
        if value is REMOVED:
            del section[last]
        else:
            section[last] = value
    path = directory / "params.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def write_text_study(directory: Path, before: str, after: str) -> Path:
    """Write the smoke study with its text changed, so that YAML's own rules are at work."""
    text = SMOKE.read_text(encoding="utf-8")
    assert before in text
    path = directory / "params.yaml"
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    return path


def read_refusal(path: Path) -> str:
    with pytest.raises(UserError) as refusal:
        load_study(path)
    message = str(refusal.value)
    assert "\n" not in message
    return message


def pool(cohort: str, *instances: int, extends: str = "none") -> dict[str, Any]:
    return {"extends": extends, "cohort": cohort, "instances": list(instances)}


@pytest.mark.parametrize("path", sorted((ROOT / "settings").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_setting_loads(path: Path) -> None:
    study = load_study(path)
    assert study.study.name == path.stem
    assert {node.partition("/")[0] for node in sort_nodes(study)} == {
        "gans",
        "classifiers",
        "pools",
    }


def test_default_study_loads() -> None:
    assert load_study(ROOT / "params.yaml").gans["baseline"].phi == 0.0


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("surprise", 1, r"surprise: unknown key \(allowed: study, data, gan_recipes, "),
        (
            "gans.baseline.surprise",
            1,
            r"baseline.surprise: unknown key \(allowed: recipe, instances, fools, phi, fooling\)",
        ),
        ("report.surprise", [], "report.surprise: unknown key"),
        ("study.seed", REMOVED, "study.seed: missing, and has no default"),
        ("study.seed", "0", "study.seed: .*integer.*found '0'"),
        ("study.seed", True, "study.seed: .*integer.*found True"),
        ("study.seed", -1, "study.seed: .*greater than or equal to 0.*found -1"),
        ("study.name", "a/b", "study.name: letters, digits.*found 'a/b'"),
        ("study.name", "", "study.name: letters, digits.*found ''"),
        (
            "data.source",
            "web",
            "data.source: .*'idx'.*'images' or 'dicebear'.*found 'web'",
        ),
        ("data.num_train", 0, "data.num_train: .*greater than or equal to 1.*found 0"),
        ("gans", 3, "gans: .*valid dictionary.*found 3"),
        ("gans.baseline.instances", 0, r"gans.baseline.instances: .*or equal to 1.*found 0"),
        ("gans.baseline.instances", 2.0, r"gans.baseline.instances: .*integer.*found 2\.0"),
        ("gans.fool_all_1.phi", -0.5, r"gans.fool_all_1.phi: .*or equal to 0.*found -0\.5"),
        ("gans.fool_all_1.phi", float("nan"), "gans.fool_all_1.phi: .*found nan"),
        ("gans.fool_all_1.phi", float("inf"), "gans.fool_all_1.phi: a finite.*found inf"),
        ("gans.fool_all_1.phi", "1.0", r"gans.fool_all_1.phi: .*number.*found '1\.0'"),
        ("gans.fool_all_1.fooling", "mean", "fooling: .*'sum' or 'weighted'.*found 'mean'"),
        ("gans.baseline.phi", 1.0, r"gans.baseline: phi is 1\.0 but fools is 'none'"),
        ("classifiers.iteration_0.truncation", 0.0, "truncation: .*greater than 0.*found 0"),
        ("classifiers.iteration_0.truncation", 1.5, "truncation: .*or equal to 1.*found 1.5"),
        ("gan_recipes.dcgan.batch_size", 1, "gan_recipes.dcgan.batch_size: .*found 1"),
        ("gan_recipes.dcgan.steps", 0, "gan_recipes.dcgan.steps: .*found 0"),
        ("gan_recipes.dcgan.ema_decay", 1.0, "gan_recipes.dcgan.ema_decay: .*found 1"),
        ("gan_recipes.dcgan.mixed_precision", "fp8", "mixed_precision: .*found 'fp8'"),
        ("gan_recipes.dcgan.generator_optimizer.learning_rate", 0.0, "learning_rate: .*found 0"),
        ("gan_recipes.dcgan.generator_optimizer.betas", [0.5], "generator_optimizer.betas"),
        ("gan_recipes.dcgan.generator_optimizer.betas", [0.5, 1.0], r"betas\.1: .*found 1"),
        ("pools.c0.instances", [], "pools.c0.instances: "),
        ("pools.c0.instances", [-1], r"pools\.c0\.instances\.0: .*found -1"),
        ("pools.c0.instances", [1, 1], r"pools\.c0: instances \[1, 1\] names one twice"),
        ("pools.c0.cohort", "gan/baseline", "pools.c0: cohort is 'gan/baseline', gans/COHORT or"),
        ("pools.c0.cohort", "gans", "pools.c0: cohort is 'gans', gans/COHORT or classifiers"),
        ("pools.c0.cohort", "gans/../x", "pools.c0: cohort is 'gans/../x'"),
        ("evaluation.num_images", 15, "evaluation.num_images: .*or equal to 16.*found 15"),
    ],
)
def test_value_is_refused_with_its_key(
    tmp_path: Path, key: str, value: object, message: str
) -> None:
    refusal = read_refusal(write_study(tmp_path, {key: value}))
    assert refusal.startswith("params.yaml: ")
    assert re.search(message, refusal)


def test_misspelt_key_is_told_rather_than_the_missing_one(tmp_path: Path) -> None:
    path = write_study(tmp_path, {"gans.baseline.phi": REMOVED, "gans.baseline.fi": 0.0})
    assert "gans.baseline.fi: unknown key" in read_refusal(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gans.baseline.recipe": "big"}, "gans.baseline.recipe: 'big' is not in gan_recipes "),
        (
            {"classifiers.iteration_0.recipe": "dcgan"},
            r"classifiers.iteration_0.recipe: 'dcgan' is not in classifier_recipes \(known: cnn\)",
        ),
        ({"gans.fool_all_1.fools": "c9"}, "gans.fool_all_1.fools: 'c9' is not in pools "),
        (
            {"gans.fool_all_1.fools": "baseline_1"},
            "gans.fool_all_1.fools: pool 'baseline_1' holds gans, classifiers are needed",
        ),
        (
            {"classifiers.iteration_0.detects": "c0"},
            "classifiers.iteration_0.detects: pool 'c0' holds classifiers, gans are needed",
        ),
        (
            {"classifiers.iteration_0.detects": "none"},
            "classifiers.iteration_0.detects: 'none' has no generators",
        ),
        ({"classifiers.iteration_0.detects": "x"}, "detects: 'x' is not in pools "),
        (
            {"pools.c0": pool("classifiers/iteration_9", 0)},
            "pools.c0.cohort: 'iteration_9' is not in classifiers",
        ),
        (
            {"pools.c0": pool("classifiers/baseline", 0)},
            "pools.c0.cohort: 'baseline' is not in classifiers",
        ),
        (
            {"pools.c0": pool("classifiers/iteration_0", 2)},
            "pools.c0.instances: 2 is not in classifiers/iteration_0, which has instances 0 to 1",
        ),
        (
            {"pools.c0": pool("classifiers/iteration_0", 0, extends="c7")},
            "pools.c0.extends: 'c7' is not in pools",
        ),
        (
            {"pools.c0": pool("classifiers/iteration_0", 0, extends="baseline_1")},
            "pools.c0.extends: pool 'baseline_1' holds gans, classifiers are needed",
        ),
        ({"pools.none": pool("gans/baseline", 0)}, "pools.none: "),
        ({"report.phi_sweep": ["x"]}, r"report.phi_sweep.0: 'x' is not in gans"),
        ({"report.iterations": [{"gans": "x"}]}, "report.iterations.0.gans: 'x' is not in gans"),
        (
            {"report.memoryless": [{"gans": "baseline", "classifiers": "x"}]},
            "report.memoryless.0.classifiers: 'x' is not in classifiers",
        ),
        (
            {"report.generalisation": [{"gans": "x", "classifiers": ["iteration_0"]}]},
            "report.generalisation.0.gans: 'x' is not in gans",
        ),
        (
            {"report.truncation": {"gans": "baseline", "classifiers": []}},
            "report.truncation.classifiers: List should have at least 1 item",
        ),
        (
            {"report.truncation": {"gans": "baseline", "classifiers": ["iteration_0"] * 2}},
            "report.truncation.classifiers: 'iteration_0' is in it twice",
        ),
        (
            {"report.memory": [{"gans": "baseline"}, {"gans": "x"}]},
            "report.memory.1.gans: 'x' is not in gans",
        ),
        (
            {
                "classifiers.twin": {"recipe": "cnn", "instances": 1, "detects": "baseline_1"},
                "report.truncation": {"gans": "baseline", "classifiers": ["iteration_0", "twin"]},
            },
            "'iteration_0' and 'twin' have one value of truncation, 1.0",
        ),
        ({"report.multi_instance": ["baseline"]}, "multi_instance: 'baseline' fools no classifier"),
        (
            {"report.mutual_fooling": ["fool_all_1"]},
            "report.mutual_fooling: one GAN cohort found, at least two are needed",
        ),
        ({"report.mutual_fooling": ["x"]}, "report.mutual_fooling.0: 'x' is not in gans"),
        (
            {"report.generalisation": [{"gans": "baseline", "classifiers": ["x"]}]},
            "report.generalisation.0.classifiers.0: 'x' is not in classifiers",
        ),
        (
            {"report.generalisation": [{"gans": "baseline", "classifiers": ["iteration_0"]}] * 2},
            "report.generalisation: 'iteration_0' is in it twice",
        ),
        (
            {
                "classifier_recipes.other": OTHER_RECIPE,
                "classifiers.twin": {"recipe": "other", "instances": 1, "detects": "baseline_1"},
                "report.generalisation": [
                    {"gans": "baseline", "classifiers": ["iteration_0", "twin"]}
                ],
            },
            "0.classifiers: one architecture is needed, iteration_0 is cnn, twin is other$",
        ),
        (
            {"report.architectures": [{"gans": "fool_all_1", "classifiers": "x"}]},
            "report.architectures.0.classifiers: 'x' is not in classifiers",
        ),
        (
            {"report.architectures": [{"gans": "baseline", "classifiers": "iteration_0"}]},
            "'baseline' fools no classifier, classifiers/iteration_0 alone is needed",
        ),
    ],
)
def test_reference_is_refused_with_both_ends(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    assert re.search(message, read_refusal(write_study(tmp_path, changes)))


def fool(pool_name: str) -> dict[str, Any]:
    return {"recipe": "dcgan", "instances": 1, "fools": pool_name, "phi": 1.0}


@pytest.mark.parametrize(
    ("pools", "reading", "message"),
    [
        (
            {"wide": pool("classifiers/iteration_0", 0, 1)},
            "mutual_fooling",
            "'a' fools 2 classifiers, not one",
        ),
        (
            {"same": pool("classifiers/iteration_0", 0)},
            "mutual_fooling",
            "'fool_all_1' and 'a' have one value of the classifier in the loss, 0",
        ),
        (
            {"same": pool("classifiers/iteration_0", 1)},
            "multi_instance",
            "'fool_all_1' and 'a' have one value of classifiers in the loss, 1",
        ),
        (
            {"other": pool("classifiers/other", 0)},
            "multi_instance",
            "classifiers of one cohort are needed, fool_all_1 fools classifiers/iteration_0, "
            "a fools classifiers/other",
        ),
    ],
)
def test_cohorts_that_make_no_reading_together_are_refused(
    tmp_path: Path, pools: dict[str, Any], reading: str, message: str
) -> None:
    changes = {
        **{f"pools.{name}": entry for name, entry in pools.items()},
        "classifiers.other": {"recipe": "cnn", "instances": 1, "detects": "baseline_1"},
        "gans.a": fool(next(iter(pools))),
        f"report.{reading}": ["fool_all_1", "a"],
    }
    assert message in read_refusal(write_study(tmp_path, changes))


def test_names_that_one_folder_could_stand_for_are_refused(tmp_path: Path) -> None:
    changes = {"gans.Baseline": {"recipe": "dcgan", "instances": 1, "fools": "none", "phi": 0.0}}
    message = read_refusal(write_study(tmp_path, changes))
    assert re.search("gans.baseline: .* gans.Baseline in case only", message)


@pytest.mark.parametrize("name", ["real", "real_train"])
def test_cohort_named_as_the_reals_is_refused(tmp_path: Path, name: str) -> None:
    changes = {f"gans.{name}": {"recipe": "dcgan", "instances": 1, "fools": "none", "phi": 0.0}}
    assert f"gans.{name}: the tables use this name for the reals" in read_refusal(
        write_study(tmp_path, changes)
    )


def test_circle_through_cohorts_is_told_round(tmp_path: Path) -> None:
    refusal = read_refusal(write_study(tmp_path, {"gans.baseline.fools": "c0"}))
    names = refusal.partition("itself: ")[2].split(" -> ")
    assert names[0] == names[-1]
    start = names.index("gans/baseline")
    circle = names[start:-1] + names[:start]
    assert circle == ["gans/baseline", "pools/c0", "classifiers/iteration_0", "pools/baseline_1"]


def test_pool_that_extends_itself_is_refused(tmp_path: Path) -> None:
    own = pool("classifiers/iteration_0", 0, extends="c0")
    assert "pools/c0 -> pools/c0" in read_refusal(write_study(tmp_path, {"pools.c0": own}))


def test_instance_that_is_repeated_along_the_extended_pools_is_refused(tmp_path: Path) -> None:
    longer = pool("classifiers/iteration_0", 1, 0, extends="c0")
    assert "pools.longer" in read_refusal(write_study(tmp_path, {"pools.longer": longer}))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("phi: 1.0", "phi: 1.0, phi: 2.0", 'duplicate key "phi"'),
        ("  seed: 0", "  seed: 0\n  seed: 1", 'duplicate key "seed"'),
        ("gans:", "gans: {}\ngans:", 'duplicate key "gans"'),
        ("phi: 1.0}", "phi: 1.0", "not valid YAML"),
        ("  name: smoke", "\tname: smoke", "not valid YAML"),
        ("  baseline: {", "  12: {", "gans.12: .*string"),
    ],
)
def test_text_that_is_no_study_is_refused(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert re.search(message, read_refusal(write_text_study(tmp_path, before, after)))


@pytest.mark.parametrize("content", [b"", b"[1]", b"word", b"\xff\xfe\x00"])
def test_file_without_a_mapping_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    assert "params.yaml" in read_refusal(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    assert "params.yaml: missing; kgaps runs in" in read_refusal(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("written", "number"), [("1e-3", 0.001), ("2.E+1", 20.0), ("5e2", 500.0), ("1", 1.0)]
)
def test_exponents_are_numbers(tmp_path: Path, written: str, number: float) -> None:
    study = load_study(write_text_study(tmp_path, "phi: 1.0", f"phi: {written}"))
    assert study.gans["fool_all_1"].phi == number


@pytest.mark.parametrize("name", ["1e3_study", "2e1", "phi_1e-2"])
def test_name_that_starts_like_a_number_ends_in_no_traceback(tmp_path: Path, name: str) -> None:
    path = write_text_study(tmp_path, "name: smoke", f"name: {name}")
    if name == "2e1":
        assert "study.name: Input should be a valid string" in read_refusal(path)
    else:
        assert load_study(path).study.name == name


def test_no_is_the_word_that_dvc_takes_it_for(tmp_path: Path) -> None:
    log_every = "    log_every: 8\n"
    path = write_text_study(tmp_path, log_every, f"{log_every}    mixed_precision: no\n")
    assert load_study(path).gan_recipes["dcgan"].mixed_precision == "no"


def test_baseline_depends_on_no_pool() -> None:
    study = load_study(SMOKE)
    assert study.gans["baseline"].phi == 0.0
    assert list_members(study, study.gans["baseline"].fools) == []
    nodes = sort_nodes(study)
    chain = ["gans/baseline", "pools/baseline_1", "classifiers/iteration_0", "pools/c0"]
    assert nodes == [*chain, "gans/fool_all_1"]


def test_longer_pool_lists_the_extended_one_first(tmp_path: Path) -> None:
    longer = pool("classifiers/iteration_0", 1, extends="c0")
    study = load_study(write_study(tmp_path, {"pools.a_longer": longer}))
    assert list_members(study, "a_longer") == [
        ("classifiers/iteration_0", 0),
        ("classifiers/iteration_0", 1),
    ]


def test_cohorts_of_a_kind_do_not_mix() -> None:
    study = load_study(SMOKE)
    assert list(get_cohorts(study, Kind.GANS)) == ["baseline", "fool_all_1"]
    assert list(get_cohorts(study, Kind.CLASSIFIERS)) == ["iteration_0"]


def test_study_is_frozen() -> None:
    study: Study = load_study(SMOKE)
    with pytest.raises(ValueError, match="frozen"):
        study.study.seed = 1


def test_preset_replaces_params_and_an_unknown_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "settings").mkdir()
    (tmp_path / "settings" / "smoke.yaml").write_bytes(SMOKE.read_bytes())
    assert list_presets(tmp_path) == ["smoke"]
    with pytest.raises(UserError, match=r"there is no 'big' in settings/ \(known: smoke\)"):
        use_preset(tmp_path, "big")
    assert not (tmp_path / "params.yaml").exists()
    use_preset(tmp_path, "smoke")
    assert (tmp_path / "params.yaml").read_bytes() == SMOKE.read_bytes()


def test_reading_a_study_does_not_import_torch() -> None:
    code = "import sys, knowledge_gaps.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
