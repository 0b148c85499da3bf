"""Write on from a prompt, left to right, reading each token once.

Legend: B samples, T tokens so far.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from ntp.generation.sampling import Sampling
from ntp.models.base import LanguageModel
from ntp.models.cache import KVCache


@torch.inference_mode()
def continue_tokens(
    model: LanguageModel,
    prompt_T: Tensor,
    *,
    tokens: int,
    samples: int = 1,
    sampling: Sampling,
    end_of_text: int | None,
    forbidden: Tensor | None = None,
    seed: int = 0,
    context: int | None = None,
) -> Iterator[Tensor]:
    """Yield the next token of every sample, one step at a time.

    A model with a limited context reads on from the last half of it when it is full.

    Args:
        model: causal, with a KV cache.
        prompt_T: [T] int64, at least one token; the same for all samples.
        tokens: how many to write at most.
        samples: B.
        sampling: how to choose.
        end_of_text: id that ends a sample, which then yields it for ever; None never ends one.
        forbidden: ids that are never chosen, such as those that are no text.
        seed: of the samples.
        context: positions that the model can read; None for any number.

    Yields:
        [B] int64 on the model's device.

    Raises:
        ValueError: the prompt is empty.
    """
    if prompt_T.numel() == 0:
        raise ValueError("an empty prompt says nothing to continue; begin with the end-of-text token")
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    text_BT = prompt_T.to(device).expand(samples, -1)
    ended_B = torch.zeros(samples, dtype=torch.bool, device=device)
    read, cache = 0, KVCache(capacity=_room(prompt_T.numel() + tokens, context))
    was_training = model.training
    model.eval()
    try:
        for _ in range(tokens):
            unread = text_BT.shape[1] - read
            if context is not None and cache.length + unread > context:
                cache, unread = KVCache(capacity=context), min(text_BT.shape[1], max(1, context // 2))
            hidden_BTD = model(text_BT[:, -unread:], cache=cache)
            read = text_BT.shape[1]
            logits_BV = model.logits(hidden_BTD[:, -1])
            if forbidden is not None:
                logits_BV[:, forbidden] = -torch.inf
            next_B = sampling.choose(logits_BV, text_BT, generator)
            if end_of_text is not None:
                next_B = torch.where(ended_B, end_of_text, next_B)
                ended_B |= next_B == end_of_text
            yield next_B
            text_BT = torch.cat([text_BT, next_B[:, None]], dim=1)
            if end_of_text is not None and bool(ended_B.all()):
                return
    finally:
        model.train(was_training)


def _room(length: int, context: int | None) -> int:
    return length if context is None else min(length, context)
