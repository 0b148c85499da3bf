"""How a trained model is asked: the two ways of writing text that all objectives here come down to.

An objective says what the model is to read (`Objective.query`); `ntp.generation` runs it.

Legend: B rows, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

Choose = Callable[[Tensor], Tensor]
"""Logits [B, V] to the token [B] that each row guesses."""


class Drafter(Protocol):
    """Guesses tokens ahead for speculative decoding: an objective with heads for further tokens is one.

    Attributes:
        depth: how many tokens it guesses.
    """

    depth: int

    def draft(self, model: Any, tokens_BT: Tensor, hidden_BTD: Tensor, caches: Sequence[Any], choose: Choose) -> Tensor:
        """Guess what stands behind a text.

        Args:
            model: any.
            tokens_BT: [B, T + 1], the text from the beginning of what the model has read.
            hidden_BTD: [B, T, D], the model's hidden states of all tokens but the last.
            caches: one `ntp.models.cache.KVCache` for each guess, empty when the text begins anew; what stays in them
                must hold for any text that begins with these tokens.
            choose: how to take a token from its logits.

        Returns:
            [B, depth], the tokens that are guessed to follow.
        """
        ...


@dataclass(frozen=True)
class Decode:
    """Write from left to right behind a prompt, until the end-of-text token or another that stops.

    Attributes:
        prompt: [T] ids, at least one.
        attention: among the tokens of the prompt; what is written sees all that stands before it.
        stop: ids that end the answer, beside the end-of-text token; they are no part of it.
        forced: ids that are written first, whatever the model thinks of them; they are no part of the answer.
        drafter: guesses several tokens ahead for speculative decoding; None for an objective without.
    """

    prompt: np.ndarray
    attention: Literal["causal", "full"] = "causal"
    stop: Set[int] = frozenset()
    forced: Sequence[int] = ()
    drafter: Drafter | None = None


ReadUnknown = Callable[[Any, Tensor, Tensor], Tensor]
"""(model, tokens [B, T], known [B, T] bool) to hidden states [B, T, D], which predict the unknown tokens.

Where the text is filled in blocks, only the states of the first block with unknown tokens are used, and what stands
there for later blocks is mask tokens."""

Unmasking = Literal["ancestral", "confidence"]
"""Which positions become known in a step: each by chance, so that the steps follow the reverse process of masked
diffusion, or those of which the model is surest."""


@dataclass(frozen=True)
class Unmask:
    """Fill the unknown positions of a text, in several steps.

    Attributes:
        tokens: [T] ids, the mask token where unknown.
        unknown: [T] bool.
        mask: id of the mask token.
        block: fill block by block from left to right: first the unknown ones among positions 0 to block - 1, then
            those of the next so many positions; None for all at once.
        read: how the model reads a text with unknown positions; None for full attention over the text as it is.
        method: how it is filled unless the user says otherwise.
    """

    tokens: np.ndarray
    unknown: np.ndarray
    mask: int
    block: int | None = None
    read: ReadUnknown | None = None
    method: Unmasking = "ancestral"


def canvas(
    prefix: np.ndarray,
    suffix: np.ndarray | None,
    length: int,
    mask: int,
    *,
    block: int | None = None,
    read: ReadUnknown | None = None,
    method: Unmasking = "ancestral",
) -> Unmask:
    """A text with ``length`` unknown tokens behind ``prefix``, and before ``suffix`` if there is one."""
    behind = prefix[:0] if suffix is None else suffix
    tokens = np.concatenate((prefix, np.full(length, mask, dtype=prefix.dtype), behind))
    unknown = np.zeros(len(tokens), dtype=bool)
    unknown[len(prefix) : len(prefix) + length] = True
    return Unmask(tokens, unknown, mask, block, read, method)


Query = Decode | Unmask
