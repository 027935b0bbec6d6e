"""The name of one trained network within its cohort."""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from knowledge_gaps.core.errors import UserError

FIRST_CHAIN = 0  # the one that analyses of single networks and pictures are of


class Instance(NamedTuple):
    """One network of a cohort: the chain it belongs to, and its number in that chain, both from 0.

    A chain is one independent repetition of the whole sequence of trainings. Networks are trained
    against, and score, networks of their own chain alone.
    """

    chain: int
    number: int

    def __str__(self) -> str:
        """Write it as CHAIN/K, which is also its folder below the cohort's."""
        return f"{self.chain}/{self.number}"

    @property
    def file_name(self) -> str:
        """The same as one part of a path: CHAIN-K."""
        return f"{self.chain}-{self.number}"

    @classmethod
    def parse(cls, text: str, key: str) -> Self:
        """Read CHAIN/K, found under a key; raises UserError."""
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", text, re.ASCII):
            raise UserError(f"{key}: {text!r} found, CHAIN/K such as 0/2 is needed")
        chain, _, number = text.partition("/")
        return cls(int(chain), int(number))
