"""Masked diffusion language modelling.

MDLM: Sahoo et al. 2024, arXiv 2406.07524. LLaDA: Nie et al. 2025, arXiv 2502.09992.
"""

import numpy as np

from ntp.config.types import PositiveProbability, Probability
from ntp.data.example import IGNORE, Draw, Example, Row
from ntp.objectives.diffusion import ANY_ORDER, LOWEST_RATE, AbsorbingDiffusion, hide_by_count, hide_by_rate
from ntp.objectives.query import Unmask, canvas


class MaskedDiffusion(AbsorbingDiffusion):
    """Hidden tokens are recovered from all that are not hidden, at every rate of hiding from almost none to all.

    Each row has a time u, uniform in [0, 1) and stratified over the global batch. Each of its tokens, the end-of-text
    token too, is hidden with probability p = (1 - epsilon) u + epsilon, and a hidden token counts 1/p. Divided by the
    number of all tokens, never by that of the hidden ones, this is an unbiased estimate of an upper bound on the
    negative log-likelihood of the row (arXiv 2406.07524, section 3.5). The rates are those of arXiv 2502.09992: where
    a token's loss does not depend on what else is hidden, the mean is exact for any epsilon.

    Validation and evaluation use another estimator of the same bound with less variance: k of n tokens are hidden, with
    k uniform in 1 .. n and stratified, and count n/k. `ntp.objectives.diffusion` says why both have the same mean.

    Where documents are isolated, all documents of a row share its time or its count. The bound of each is still
    right. Given p, a document's tokens are hidden as if it were alone. With counts, the mean over k and over subsets
    is the mean over orders of the row's tokens; such an order restricted to a document is a uniform order of that
    document, and only tokens of its own are seen.

    Args:
        epsilon: the lowest rate of hiding; a hidden token counts at most 1/epsilon.
        subs: give the mask token no probability (the zero masking probabilities of MDLM, arXiv 2406.07524, section
            3.2.3). LLaDA does without.
        random_length_rate: share of training rows that are cut to a length uniform in 1 .. their own, so that short
            texts are nothing new to the model when it writes (arXiv 2502.09992, section 2.2).
    """

    attention = "full"
    inference = frozenset({"continue", "infill"})
    ways = ANY_ORDER

    def __init__(
        self,
        epsilon: PositiveProbability = LOWEST_RATE,
        subs: bool = True,
        random_length_rate: Probability = 0.01,
    ) -> None:
        super().__init__(subs)
        self.epsilon, self.random_length_rate = epsilon, random_length_rate

    def corrupt(self, row: Row, draw: Draw) -> Example:
        """Hide tokens of a row."""
        rng = draw.rng
        if self.random_length_rate and not draw.evaluation and rng.random() < self.random_length_rate:
            row = row.part(0, int(rng.integers(len(row))) + 1)
        sizes = np.array([len(row)])
        if draw.evaluation:
            hidden, weights = hide_by_count(sizes, draw, rng)
        else:
            hidden, weights = hide_by_rate(sizes, draw, rng, self.epsilon)
        return Example(
            tokens=np.where(hidden, self.mask_id, row.tokens),
            targets=np.where(hidden, row.tokens, IGNORE),
            weights=weights,
            segments=row.segments,
            target_bytes=row.bytes,
            count=len(row),
            read_bytes=int(row.bytes.sum()),
        )

    def restore(self, example: Example) -> np.ndarray:
        """What is read, and the targets where it is hidden; a row that was cut gives its first tokens."""
        return np.where(example.targets == IGNORE, example.tokens, example.targets)

    def query(self, prefix: np.ndarray, suffix: np.ndarray | None, length: int, form: str | None = None) -> Unmask:
        """``length`` masks behind the prefix, and before the suffix if there is one."""
        return canvas(prefix, suffix, length, self.mask_id)
