"""What the page says of a study: recipes, deviations and limits, derived and not assumed."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest

from knowledge_gaps.readings.formats import NOTHING, format_detected, format_pool
from knowledge_gaps.readings.words import get_extractor
from knowledge_gaps.report.page.recipes import make_recipe_table
from knowledge_gaps.report.page.render import make_context, make_environment
from knowledge_gaps.study import ClassifierRecipe, GanRecipe, Study

ENDS = {"low": -0.1, "high": 0.1}
GAN_RECIPE: dict[str, Any] = {
    "architecture": "dcgan",
    "model": {"latent_dim": 8, "channels": [8, 4]},
    "steps": 2000,
    "batch_size": 16,
    "generator_optimizer": {"learning_rate": 2e-3, "betas": [0.5, 0.999]},
    "discriminator_optimizer": {"learning_rate": 1e-3},
}
CLASSIFIER_RECIPE: dict[str, Any] = {
    "architecture": "cnn",
    "steps": 300,
    "batch_size": 16,
    "optimizer": {"learning_rate": 3e-3},
}


def make_study(
    gan_recipe: dict[str, Any] | None = None,
    classifier_recipe: dict[str, Any] | None = None,
    instances: int = 3,
    dataset: str = "mnist",
) -> Study:
    return Study.model_validate(
        {
            "study": {"name": "fabricated", "seed": 0},
            "data": {"name": dataset, "source": "idx", "directory": "data/mnist"},
            "gan_recipes": {"small": {**GAN_RECIPE, **(gan_recipe or {})}},
            "classifier_recipes": {"plain": {**CLASSIFIER_RECIPE, **(classifier_recipe or {})}},
            "pools": {
                "one": {"extends": "none", "cohort": "gans/baseline", "instances": [0]},
                "two": {"extends": "one", "cohort": "gans/baseline", "instances": [2]},
                "c": {"extends": "none", "cohort": "classifiers/c", "instances": [0]},
            },
            "gans": {
                "baseline": {
                    "recipe": "small",
                    "instances": instances,
                    "fools": "none",
                    "phi": 0.0,
                },
                "fool": {"recipe": "small", "instances": instances + 2, "fools": "c", "phi": 0.1},
            },
            "classifiers": {"c": {"recipe": "plain", "instances": instances, "detects": "two"}},
            "evaluation": {"num_images": 64},
            "report": {
                "iterations": [{"gans": "baseline", "classifiers": "c"}, {"gans": "fool"}],
            },
        }
    )


def render(study: Study, template: str, **others: object) -> str:
    """Render one template with what is known of a study before anything is measured."""
    page = make_environment().get_template(template).render(**make_context(study), **others)
    return " ".join(html.unescape(page).split())


def list_choices(study: Study) -> dict[str, str]:
    page = render(study, "sections/deviations.html.j2")
    rows = re.findall(r'<th scope="row">(.*?)</th><td>.*?</td><td>(.*?)</td>', page)
    return {topic: here.strip() for topic, here in rows}


def find_choice(study: Study, topic: str) -> str:
    (found,) = [here for name, here in list_choices(study).items() if name.startswith(topic)]
    return found


def make_cell(rate: float, auc: float = 0.5) -> dict[str, float]:
    names = ("detection_rate", "auc")
    bounds = {f"{name}_{end}": rate + sign for name in names for end, sign in ENDS.items()}
    return {"detection_rate": rate, "auc": auc, **bounds}


def test_summary_names_the_rates_of_the_first_fooling_generators() -> None:
    cells = {
        ("held_out", "c", "baseline"): make_cell(0.87),
        ("in_loss", "c", "fool"): make_cell(0.13),
        ("held_out", "c", "fool"): make_cell(0.38, auc=0.94),
    }

    def summarise(study: Study, known: dict[Any, Any]) -> str:
        return render(study, "summary.html.j2", find=lambda *key: known.get(key))

    text = summarise(make_study(), cells)
    assert "detect 0.87 [0.77, 0.97] of the images of held-out baselines" in text
    assert "that one detects 0.13 [0.03, 0.23], its held-out siblings detect 0.38" in text
    assert "an AUC of 0.94" in text
    assert "anew" not in text  # no classifiers of iteration 1
    for key in cells:
        assert summarise(make_study(), {k: v for k, v in cells.items() if k != key}) == ""


def with_architectures(gan: str, classifier: str) -> Study:
    """Return a study of one GAN recipe and one classifier recipe of these architectures."""
    study = make_study()
    gans = {"small": GanRecipe.model_validate(GAN_RECIPE | {"architecture": gan})}
    classifiers = {
        "plain": ClassifierRecipe.model_validate(CLASSIFIER_RECIPE | {"architecture": classifier})
    }
    return study.model_copy(update={"gan_recipes": gans, "classifier_recipes": classifiers})


def list_architectures(study: Study) -> dict[str, str]:
    choices = list_choices(study)
    return {topic: here for topic, here in choices.items() if topic.startswith("Architectures")}


def test_architectures_of_a_study_s_own_follow_no_paper() -> None:
    own = "networks of this study's own, with the sizes of their recipes"
    assert list_architectures(with_architectures("mine", "judge")) == {
        "Architectures of this study's own": f"mine, judge; {own}"
    }
    small = "networks of this repository's own, with the widths of their recipes"
    assert list_architectures(with_architectures("mine", "cnn")) == {
        "Architectures": small,
        "Architectures of this study's own": f"mine; {own}",
    }
    found = list_architectures(with_architectures("stylegan2", "judge"))
    assert found.pop("Architectures of this study's own") == f"judge; {own}"
    assert found["Architectures"].startswith("StyleGAN2; networks of this repository's own after")


def test_small_and_large_networks_have_a_row_each() -> None:
    found = list_architectures(with_architectures("dcgan", "resnet50"))
    assert list(found) == ["Architectures", "Architectures of the large networks"]
    assert found["Architectures of the large networks"].startswith("ResNet-50; networks of")
    assert list(list_architectures(with_architectures("dcgan", "cnn"))) == ["Architectures"]


def test_recipe_table_shows_every_setting_and_default() -> None:
    table = make_recipe_table({"small": GanRecipe.model_validate(GAN_RECIPE)})
    sections = {"model", "generator_optimizer", "discriminator_optimizer"}
    assert {key.partition(".")[0] for key in table} == set(GanRecipe.model_fields)
    assert not sections & set(table)
    expected = {
        "steps": "2,000",
        "model.channels": "8, 4",
        "generator_optimizer.weight_decay": "0",
        "generator_optimizer.betas": "0.5, 0.999",
        "discriminator_optimizer.learning_rate": "0.001",
        "discriminator_optimizer.schedule": "constant",
        "r1_interval": "16",
        "ema_decay": "none",
    }
    assert {key: table[key] for key in expected} == {k: [text] for k, text in expected.items()}


def test_recipe_table_marks_what_another_recipe_has_alone() -> None:
    recipes = {
        "bare": ClassifierRecipe.model_validate(CLASSIFIER_RECIPE),
        "wide": ClassifierRecipe.model_validate({**CLASSIFIER_RECIPE, "model": {"width": 4}}),
    }
    table = make_recipe_table(recipes)
    assert table["model.width"] == [NOTHING, "4"]
    assert table["model"] == ["the architecture's defaults", NOTHING]


def test_generators_that_stopped_a_training_are_told_from_those_trained_on() -> None:
    assert format_detected(make_study(), "c") == "baseline/0, baseline/2"
    stopping = {"held_out_generators": 1, "num_images": 8, "check_every": 4, "patience": 1}
    study = make_study(classifier_recipe={"early_stopping": stopping})
    assert format_detected(study, "c") == "baseline/0; stopped by baseline/2"


def test_pool_is_written_with_what_it_extends() -> None:
    assert format_pool(make_study(), "two") == "baseline/0, baseline/2"
    assert format_pool(make_study(), "none") == ""


@pytest.mark.parametrize(
    ("topic", "recipes", "words"),
    [
        ("R1", {}, "none"),
        ("R1", {"gan_recipe": {"r1_gamma": 3.0}}, "gamma 3, as an update of its own every 16"),
        ("Augmentation", {}, "none"),
        ("Augmentation", {"classifier_recipe": {"translation_px": 3}}, "plain: up to 3 px"),
        ("Learning-rate", {}, "small: constant; plain: constant"),
        (
            "Learning-rate",
            {"classifier_recipe": {"optimizer": {"learning_rate": 1e-3, "schedule": "cosine"}}},
            "plain: cosine fall to 0 from the start on",
        ),
        (
            "Learning-rate",
            {
                "gan_recipe": {
                    "generator_optimizer": {
                        "learning_rate": 1e-3,
                        "schedule": "linear",
                        "decay_from": 0.5,
                    }
                }
            },
            "small: linear fall to 0 from 50% of the steps on and constant",
        ),
        ("Which weights", {}, "those of the last step; no instance"),
        ("Which weights", {"gan_recipe": {"ema_decay": 0.9}}, "moving average for recipe small"),
        ("Iterations", {}, "2 iterations with phi = 10⁻¹"),
    ],
)
def test_choices_are_those_of_the_study(topic: str, recipes: dict[str, Any], words: str) -> None:
    choice = find_choice(make_study(**recipes), topic)
    assert choice == words if words == "none" else words in choice


def test_shift_is_said_to_bear_on_the_findings_only_where_there_is_one() -> None:
    shifted = make_study(classifier_recipe={"translation_px": 2})
    assert "bears on the findings" in find_choice(shifted, "Augmentation")
    assert "bears on the findings" not in find_choice(make_study(), "Augmentation")


def test_lenet_of_digits_is_pointed_out_for_other_images() -> None:
    assert "Fashion-MNIST" in find_choice(make_study(dataset="fashion-mnist"), "FID")
    assert "never seen" not in find_choice(make_study(), "FID")


@pytest.mark.parametrize(("instances", "words"), [(3, "3 to 5 GANs or 3"), (10, "10 to 12 GANs")])
def test_limits_state_the_sizes_of_the_cohorts(instances: int, words: str) -> None:
    limits = render(make_study(instances=instances), "sections/limits.html.j2")
    assert words in limits
    assert f"no more than {instances}." in limits
    assert "2,000 steps for a GAN and 300 for a classifier" in limits


def test_extractor_without_words_of_its_own_has_plain_ones() -> None:
    study = make_study()
    evaluation = study.evaluation.model_copy(update={"extractor": "mine"})
    other = study.model_copy(update={"evaluation": evaluation})
    assert get_extractor(other).title == "mine"
    assert "features of the extractor mine" in find_choice(other, "FID")
