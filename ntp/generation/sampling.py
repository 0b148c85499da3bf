"""Choose the next token from its logits.

Legend: B rows, V vocabulary, T tokens so far.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ntp.config.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How to choose.

    Attributes:
        greedy: always the likeliest token; the rest then does nothing but the repetition penalty.
        temperature: divides the logits, above 0.
        top_k: keep the k likeliest tokens (Fan et al. 2018, arXiv 1805.04833, section 4.2).
        top_p: keep the likeliest tokens that together reach this probability (Holtzman et al. 2019, arXiv 1904.09751,
            section 3.1).
        min_p: keep tokens at least this fraction as likely as the likeliest (arXiv 2407.01082, section 3).
        repetition_penalty: divides the positive and multiplies the negative logits of tokens that the text holds
            (Keskar et al. 2019, arXiv 1909.05858, section 4.1); 1 does nothing.
    """

    greedy: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def probabilities(self, logits_BV: Tensor, text_BT: Tensor | None = None) -> Tensor:
        """The distribution that `choose` draws from.

        Args:
            logits_BV: float32.
            text_BT: tokens so far, for the repetition penalty.

        Returns:
            [B, V] float32; every row sums to one.
        """
        logits_BV = self._penalise(logits_BV, text_BT)
        if self.greedy:
            return torch.zeros_like(logits_BV).scatter_(1, logits_BV.argmax(1, keepdim=True), 1.0)
        logits_BV = logits_BV / self.temperature
        if self.top_k is not None and self.top_k < logits_BV.shape[1]:
            weakest_B1 = logits_BV.topk(self.top_k, dim=1).values[:, -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < weakest_B1, -torch.inf)
        probabilities_BV = logits_BV.softmax(1)
        if self.min_p is not None:
            least_B1 = self.min_p * probabilities_BV.amax(1, keepdim=True)
            probabilities_BV = _renormalise(probabilities_BV.masked_fill(probabilities_BV < least_B1, 0.0))
        if self.top_p is not None:
            sorted_BV, index_BV = probabilities_BV.sort(1, descending=True)
            before_BV = sorted_BV.cumsum(1) - sorted_BV
            kept_BV = sorted_BV.masked_fill(before_BV >= self.top_p, 0.0)
            probabilities_BV = _renormalise(torch.zeros_like(probabilities_BV).scatter_(1, index_BV, kept_BV))
        return probabilities_BV

    def choose(self, logits_BV: Tensor, text_BT: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """One token id a row, [B] int64."""
        probabilities_BV = self.probabilities(logits_BV, text_BT)
        if self.greedy:
            return probabilities_BV.argmax(1)
        if not torch.isfinite(probabilities_BV).all():
            raise ConfigError("", "what the model predicts are no finite numbers: its training has diverged")
        return torch.multinomial(probabilities_BV, 1, generator=generator)[:, 0]

    def _penalise(self, logits_BV: Tensor, text_BT: Tensor | None) -> Tensor:
        if self.repetition_penalty == 1.0 or text_BT is None or text_BT.shape[1] == 0:
            return logits_BV
        seen_BT = logits_BV.gather(1, text_BT)
        weaker_BT = torch.where(seen_BT > 0, seen_BT / self.repetition_penalty, seen_BT * self.repetition_penalty)
        return logits_BV.scatter(1, text_BT, weaker_BT)


def _renormalise(probabilities_BV: Tensor) -> Tensor:
    return probabilities_BV / probabilities_BV.sum(1, keepdim=True)
