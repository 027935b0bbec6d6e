"""How a cohort is trained: recipes and cohorts as frozen types, with the defaults of their keys.

Defaults decide a training as much as params.yaml does, so the fingerprints of cohorts hold this
file, and no other of this folder.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

NO_POOL = "none"  # the pool of a baseline cohort: no frozen instance at all
REALS = "real"  # the reals, in a table's column of GAN cohorts
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class Kind(StrEnum):
    """The two kinds of cohort; the value is the folder under models/."""

    GANS = "gans"
    CLASSIFIERS = "classifiers"


class Section(BaseModel):
    """A part of params.yaml: frozen, unknown keys refused, no silent conversion of types."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True
    )


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("letters, digits, _ and - are allowed, starting with a letter or digit")
    return name


Name = Annotated[str, AfterValidator(_check_name)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
NumInstances = Annotated[int, Field(ge=1, le=10_000)]
InstanceList = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class OptimizerSettings(Section):
    """Adam's settings, and the schedule of its learning rate."""

    learning_rate: Positive
    """Step size at the start."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        default=(0.9, 0.999), strict=False
    )
    """Decay rates of the moment estimates."""
    weight_decay: NonNegative = 0.0
    """Decoupled weight decay (AdamW when above 0)."""
    schedule: Literal["constant", "linear", "late_linear", "cosine", "step"] = "constant"
    """"constant", a fall to 0 along a line, along a line over the second half, or along half a
    cosine, or "step", which divides the rate by
    ten after each third of the fall (He et al. 2016, section 3.4, but for where the plateaus
    lie)."""


class TrainingSettings(Section):
    """What both kinds of training share."""

    architecture: Name
    """A name in `knowledge_gaps.models.registry`."""
    model: dict[str, Any] = {}
    """Settings of the architecture, checked by the registry."""
    steps: Count
    """Optimiser updates."""
    batch_size: Annotated[int, Field(ge=2)]
    """Images of each side in a batch: that many reals and that many generated."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """Autocast of the forward passes."""
    gradient_accumulation_steps: Count = 1
    """Batches whose gradients are averaged for one update."""
    max_gradient_norm: Positive | None = None
    """Gradients are clipped to this 2-norm; null for no clipping."""
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the moving average of the weights that becomes the result; null keeps the last
    weights."""
    ema_ramp_up: Positive | None = None
    """The average's half-life is at most this share of the steps so far, so that it forgets the
    start (0.05 in the StyleGAN2 family's code); null for none."""
    mirror: bool = False
    """Images of a batch are mirrored left to right with probability 1/2: reals in a GAN's training,
    reals and generated images alike in a classifier's."""
    log_every: Count = 50
    """Steps between two rows of curves.csv."""


class GanRecipe(TrainingSettings):
    """How the GANs of a cohort are trained."""

    generator_optimizer: OptimizerSettings
    """Adam of the generator."""
    discriminator_optimizer: OptimizerSettings
    """Adam of the discriminator."""
    r1_gamma: NonNegative = 0.0
    """Weight of the R1 penalty on reals (Mescheder et al. 2018, eq. 9); 0 for none."""
    r1_interval: Count = 16
    """The penalty is taken every so many steps, with its weight scaled by the interval (lazy
    regularisation, Karras et al. 2020, section 3.1)."""
    path_length_weight: NonNegative = 0.0
    """Weight of the path-length penalty (Karras et al. 2020, eq. 4), for architectures that have
    styles; 0 for none."""
    path_length_interval: Count = 4
    """As r1_interval, of the generator's own penalty."""
    path_length_decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Of the moving average of path lengths that the penalty pulls towards."""
    path_length_shrink: Count = 2
    """The penalty is taken over batch_size divided by this, at least 1 image."""


class EarlyStopping(Section):
    """Ends a classifier's training by its accuracy on generators that it is not trained on."""

    held_out_generators: Count = 1
    """How many of the pool's last generators are kept for it, out of the training; at least one
    generator must be left."""
    num_images: Count
    """Generated images of each of them, and as many reals, that are scored; the reals are drawn
    from the dev split where data.num_dev asks for one, else from the training images."""
    check_every: Count
    """Steps between two measurements."""
    patience: Count
    """Looks without a better balanced accuracy before the training ends; the weights of the best
    look are the result."""


class ClassifierRecipe(TrainingSettings):
    """How the GAN-classifiers of a cohort are trained."""

    optimizer: OptimizerSettings
    """Adam of the classifier."""
    initialisation: Literal["random", "imagenet"] = "random"
    """"random", or "imagenet" for torchvision's published weights."""
    initial_weights: str | None = None
    """File of those weights, relative to the repository's root or absolute; null for torchvision's
    cache."""
    auxiliary_weight: NonNegative = 0.4
    """Weight of the loss of every auxiliary head, for architectures with one."""
    gradient_checkpointing: bool = False
    """Activations are computed again in the backward pass, for memory."""
    translation_px: Annotated[int, Field(ge=0)] = 0
    """Reals and generated images are both shifted by up to so many pixels."""
    cutout_px: Annotated[int, Field(ge=0)] = 0
    """A square of so many pixels a side, placed at random, is set to mid-grey in reals and
    generated images alike; 0 for none."""
    early_stopping: EarlyStopping | None = None
    """Null trains all steps."""
    shuffled_labels: bool = False
    """Every batch's labels are shuffled, so the classifier learns nothing of the images: a placebo
    for generators to be trained against."""

    @model_validator(mode="after")
    def _check_initial_weights(self) -> Self:
        if self.initialisation == "random" and self.initial_weights is not None:
            raise ValueError("initial_weights is set but initialisation is 'random'")
        return self


class GanCohort(Section):
    """Independently seeded GANs, trained against one pool of frozen classifiers."""

    recipe: Name
    """A key of gan_recipes."""
    instances: NumInstances
    """How many GANs in each chain."""
    fools: Name
    """The pool of frozen classifiers in the loss, or "none" for a baseline."""
    phi: NonNegative
    """Weight of the fooling term; at least 0."""
    fooling: Literal["sum", "weighted"] = "sum"
    """"sum" for log D + phi * sum log C, "weighted" for the MNIST form 1/(1+phi) log D +
    phi/(1+phi) sum log C."""

    @model_validator(mode="after")
    def _check_phi(self) -> Self:
        if self.fools == NO_POOL and self.phi != 0:
            raise ValueError(f"phi is {self.phi} but fools is {NO_POOL!r}: phi must be 0.0 then")
        return self

    @property
    def pool(self) -> str:
        """The pool that it is trained against, by the name that cohorts of both kinds share."""
        return self.fools


class ClassifierCohort(Section):
    """Independently seeded GAN-classifiers, trained on reals against one pool of generators."""

    recipe: Name
    """A key of classifier_recipes."""
    instances: NumInstances
    """How many classifiers in each chain."""
    detects: Name
    """The pool of frozen generators whose samples are the generated half of a batch."""
    truncation: Annotated[float, Field(gt=0, le=1)] = 1.0
    """As in `models.registry.Generator.sample`: standard deviation of the latents, or psi for a
    generator with styles; 1.0 for the generator's own images."""

    @property
    def pool(self) -> str:
        """The pool that it is trained against, by the name that cohorts of both kinds share."""
        return self.detects
