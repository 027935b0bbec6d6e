"""The way from images to a classifier's input: resizing by a matrix, then normalisation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from knowledge_gaps.core.errors import UserError
from knowledge_gaps.models.input_spec import GanClassifier, InputSpec

SIZES = [(28, 28), (28, 64), (64, 28), (28, 7), (7, 28), (1, 5), (32, 299)]


class Recorder(nn.Module):
    """A network that keeps what it is given."""

    seen: Tensor

    def forward(self, images: Tensor) -> Tensor:
        self.seen = images
        return images.mean(dim=(1, 2, 3))


def prepare(images: Tensor, spec: InputSpec) -> Tensor:
    recorder = Recorder()
    GanClassifier(recorder, spec)(images)
    return recorder.seen


def make_spec(image_px: tuple[int, int], input_px: tuple[int, int]) -> InputSpec:
    return InputSpec(
        channels=3,
        image_px=image_px,
        input_px=input_px,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )


@pytest.mark.parametrize(
    ("image_px", "input_px"),
    [((28, 28), (64, 64)), ((64, 64), (28, 28)), ((28, 36), (9, 50)), ((8, 8), (8, 12))],
)
def test_prepared_images_equal_torchs_antialiased_resize(
    image_px: tuple[int, int], input_px: tuple[int, int]
) -> None:
    spec = make_spec(image_px, input_px)
    images = torch.rand(4, 3, *image_px, generator=torch.Generator().manual_seed(1)) * 2 - 1
    resized = F.interpolate(
        images, size=input_px, mode="bilinear", align_corners=False, antialias=True
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))
    expected = ((resized + 1) / 2 - mean) / std
    torch.testing.assert_close(prepare(images, spec), expected, rtol=0, atol=1e-5)


def test_gradient_reaches_every_pixel() -> None:
    spec = make_spec((28, 28), (10, 14))
    images = torch.zeros(2, 3, 28, 28, requires_grad=True)
    weights = torch.tensor(spec.std).view(3, 1, 1)
    (prepare(images, spec) * weights).sum().backward()
    assert images.grad is not None
    assert (images.grad > 0).all()
    # every row of both matrices sums to 1, and [-1, 1] is twice as wide as [0, 1]
    assert images.grad.sum().item() == pytest.approx(0.5 * 2 * 3 * 10 * 14, rel=1e-5)


def test_images_of_another_size_are_refused() -> None:
    classifier = GanClassifier(Recorder(), make_spec((8, 8), (4, 4)))
    for shape in ((5, 3, 8, 9), (5, 1, 8, 8)):
        found = "x".join(map(str, shape[1:]))
        with pytest.raises(UserError, match=f"takes images of 3x8x8, .*given images of {found} "):
            classifier(torch.zeros(shape))


def test_grey_images_are_repeated_where_the_network_sees_colours() -> None:
    colours = make_spec((8, 6), (12, 9))
    grey = colours.model_copy(update={"channels": 1})
    assert grey.input_shape == colours.input_shape == (3, 12, 9)
    images = torch.rand(2, 1, 8, 6, generator=torch.Generator().manual_seed(4)) * 2 - 1
    assert torch.equal(prepare(images, grey), prepare(images.expand(-1, 3, -1, -1), colours))


@pytest.mark.parametrize("changes", [{"channels": 2}, {"mean": (0.5,)}, {"std": (0.5,) * 4}])
def test_spec_whose_channels_do_not_fit_is_refused(changes: dict[str, Any]) -> None:
    values = {**make_spec((8, 8), (4, 4)).model_dump(), **changes}
    with pytest.raises(ValueError, match="do not fit"):
        InputSpec.model_validate(values)


def test_resizing_keeps_float32_under_autocast() -> None:
    spec = make_spec((8, 8), (12, 12))
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        prepared = prepare(images, spec)
    assert torch.equal(prepared, prepare(images, spec))


# --- values that no stored image has


@pytest.mark.parametrize("input_px", [(8, 8), (5, 5)])
def test_values_beyond_the_range_are_seen_as_they_would_be_stored(
    input_px: tuple[int, int],
) -> None:
    spec = make_spec((8, 8), input_px)
    images = 3 * torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(7))
    assert (images.abs() > 1).float().mean() > 0.5
    assert torch.equal(prepare(images, spec), prepare(images.clamp(-1, 1), spec))


def test_no_gradient_rewards_values_beyond_the_range() -> None:
    images = torch.tensor([-2.0, -0.9, 0.5, 0.9, 1.5]).view(1, 1, 1, 5).requires_grad_()
    spec = InputSpec(channels=1, image_px=(1, 5), input_px=(1, 5), mean=(0.5,), std=(0.5,))
    (gradient,) = torch.autograd.grad(GanClassifier(Recorder(), spec)(images).sum(), images)
    assert (gradient.flatten() != 0).tolist() == [False, True, True, True, False]


# --- heads


class TwoHeads(nn.Module):
    """A network with an auxiliary head in training, in half precision."""

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        main = images.mean(dim=(1, 2, 3)).bfloat16()
        return (main, 2 * main) if self.training else main


def test_main_head_alone_is_what_a_classifier_returns() -> None:
    classifier = GanClassifier(TwoHeads(), make_spec((8, 8), (4, 4)))
    images = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(6))
    main, auxiliary = classifier.compute_heads(images)
    assert (main.dtype, auxiliary.dtype, main.shape) == (torch.float32, torch.float32, (5,))
    assert torch.equal(auxiliary, 2 * main)
    assert torch.equal(classifier(images), main)
    assert len(classifier.eval().compute_heads(images)) == 1
    assert torch.equal(classifier(images), main)


def test_spec_is_stored_beside_the_weights_and_not_in_them() -> None:
    spec = make_spec((8, 8), (4, 4))
    assert InputSpec.model_validate(spec.model_dump(mode="json")) == spec
    assert not GanClassifier(Recorder(), spec).state_dict()


def test_unknown_key_of_a_spec_is_refused() -> None:
    with pytest.raises(ValueError, match="surprise"):
        InputSpec.model_validate({**make_spec((8, 8), (4, 4)).model_dump(), "surprise": 1})
