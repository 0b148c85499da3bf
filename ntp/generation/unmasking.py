"""Fill the unknown positions of a text, in several steps.

Two ways, which differ in the positions that become known in a step. Both predict tokens at positions, given all that is
known, and never change a token that is known.

*ancestral* (MDLM, arXiv 2406.07524, section 3.2.1, with its linear schedule): from time t to time s < t, each unknown
position becomes known with probability (t - s) / t, by chance alone. The times are 1, 1 - 1/n, ..., 0 for n steps, so
that on average equally many positions become known in each step, and all are known after the last.

*confidence* (LLaDA, arXiv 2502.09992, section 2.4: low-confidence remasking): each step predicts a token for every
unknown position and keeps those of which the model is surest; their number follows the same schedule exactly.

Legend: B samples, T positions, R unknown positions of a block, C chosen ones of all samples, V vocabulary, D width.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ntp.generation.mode import evaluating
from ntp.generation.sampling import Sampling
from ntp.models.base import LanguageModel
from ntp.objectives.query import Unmask, Unmasking


@torch.inference_mode()
def unmask(
    model: LanguageModel,
    query: Unmask,
    *,
    samples: int = 1,
    sampling: Sampling,
    method: Unmasking | None = None,
    steps: int | None = None,
    block: int | None = None,
    forbidden: Tensor | None = None,
    seed: int = 0,
) -> Iterator[Tensor]:
    """Yield the text of every sample after each step; the last one has no unknown position.

    Args:
        model: reads unknown positions as the query says.
        query: the text.
        samples: B, of the same query.
        sampling: how to choose a token.
        method: which positions become known; None for the query's own.
        steps: of the whole text, shared out among blocks by their unknown positions, at least one for each; None for
            as many as there are unknown positions. A step in which nothing becomes known asks nothing of the model.
        block: positions of a block where the query has no blocks of its own.
        forbidden: ids that are never chosen; the mask token must be one of them.
        seed: of the samples.

    Yields:
        [B, T] int64 on the model's device, with the mask token where still unknown.
    """
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    tokens_BT = torch.from_numpy(query.tokens).to(device).repeat(samples, 1)
    unknown_BT = torch.from_numpy(query.unknown).to(device).repeat(samples, 1)
    total = int(query.unknown.sum())
    size, before = query.block or block or len(query.tokens), 0

    def predict(chosen_BT: Tensor) -> tuple[Tensor, Tensor]:
        """A token [C] for each chosen position, and how probable the model finds it, [C] float64."""
        if query.read is None:
            hidden_BTD = model(tokens_BT, attention="full")
        else:
            hidden_BTD = query.read(model, tokens_BT, ~unknown_BT)
        # float64: sampling in float32 rounds the rare tokens away, which lowers the temperature (arXiv 2409.02908).
        logits_CV = model.logits(hidden_BTD[chosen_BT]).double()
        if forbidden is not None:
            logits_CV[:, forbidden] = -torch.inf
        drawn_C = sampling.choose(logits_CV, tokens_BT[chosen_BT.nonzero()[:, 0]], generator)
        return drawn_C, logits_CV.softmax(1).gather(1, drawn_C[:, None])[:, 0]

    with evaluating(model):
        for begin in range(0, len(query.tokens), size):
            in_block_T = torch.zeros_like(unknown_BT[0])
            in_block_T[begin : begin + size] = True
            count = int(query.unknown[begin : begin + size].sum())
            if not count:
                continue
            share = count
            if steps is not None:
                share = max(1, steps * (before + count) // total - steps * before // total)
            before += count
            for step in range(share):
                open_BT = unknown_BT & in_block_T
                if (method or query.method) == "ancestral":
                    uniform_BT = torch.rand(open_BT.shape, dtype=torch.float64, device=device, generator=generator)
                    chosen_BT = open_BT & (uniform_BT * (share - step) < 1)
                    if bool(chosen_BT.any()):
                        tokens_BT = tokens_BT.masked_scatter(chosen_BT, predict(chosen_BT)[0])
                else:
                    chosen_BT = torch.zeros_like(open_BT)
                    kept = count * (step + 1) // share - count * step // share
                    if kept:
                        drawn_C, probability_C = predict(open_BT)
                        # All samples have equally many unknown positions here.
                        surest_BK = probability_C.view(samples, -1).topk(kept, dim=1).indices
                        index_BR = open_BT.nonzero()[:, 1].view(samples, -1)
                        chosen_BT.scatter_(1, index_BR.gather(1, surest_BK), True)
                        tokens_BT = torch.where(chosen_BT, tokens_BT.masked_scatter(open_BT, drawn_C), tokens_BT)
                unknown_BT = unknown_BT & ~chosen_BT
                yield tokens_BT
