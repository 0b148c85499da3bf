"""How a trained model is asked: the two ways of writing text that all objectives here come down to.

An objective says what the model is to read (`Objective.query`); `ntp.generation` runs it.

Legend: B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Decode:
    """Write from left to right behind a prompt.

    Attributes:
        prompt: [T] ids, at least one.
        attention: among the tokens of the prompt; what is written sees all that stands before it.
        stop: ids that end the answer, beside the end-of-text token; they are no part of it.
        drafter: guesses several tokens ahead for speculative decoding; None for an objective without.
    """

    prompt: np.ndarray
    attention: Literal["causal", "full"] = "causal"
    stop: Set[int] = frozenset()
    drafter: Any = None


ReadUnknown = Callable[[Any, Tensor, Tensor], Tensor]
"""(model, tokens [B, T], known [B, T] bool) to hidden states [B, T, D], which predict the unknown tokens."""


@dataclass(frozen=True)
class Unmask:
    """Fill the unknown positions of a text, in several steps.

    Attributes:
        tokens: [T] ids, the mask token where unknown.
        unknown: [T] bool.
        mask: id of the mask token.
        block: fill blocks of so many positions from left to right; None for all at once.
        read: how the model reads a text with unknown positions; None for full attention over the text as it is.
    """

    tokens: np.ndarray
    unknown: np.ndarray
    mask: int
    block: int | None = None
    read: ReadUnknown | None = None


Query = Decode | Unmask
