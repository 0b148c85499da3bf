"""Text in, text out: continuations of a prompt with a run's tokenizer."""

from collections.abc import Callable

import torch

from ntp.data.tokenizers import Tokenizer
from ntp.generation.continuation import continue_tokens
from ntp.generation.sampling import Sampling
from ntp.models.base import LanguageModel


def continue_text(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    tokens: int,
    samples: int = 1,
    sampling: Sampling,
    stop_at_end: bool = True,
    seed: int = 0,
    show: Callable[[str], None] | None = None,
) -> list[str]:
    """Continue a text.

    Args:
        model: causal.
        tokenizer: the run's.
        prompt: what to continue; every document was trained behind an end-of-text token, so the prompt is too.
        tokens: how many to write at most.
        samples: how many continuations.
        sampling: how to choose.
        stop_at_end: end a sample at the end-of-text token; else it may go on with another document.
        seed: of the samples.
        show: called with each new piece of the first sample as soon as it is readable.

    Returns:
        The continuations, without the prompt.
    """
    end = tokenizer.end_of_text
    ids = [end, *tokenizer.encode(prompt)]
    # Reserved tokens that training never showed have untrained logits; a text never holds them.
    forbidden = [one for one in sorted(tokenizer.special_ids) if one != end]
    steps = continue_tokens(
        model,
        torch.tensor(ids, dtype=torch.long),
        tokens=tokens,
        samples=samples,
        sampling=sampling,
        end_of_text=end if stop_at_end else None,
        forbidden=torch.tensor([*forbidden, *range(tokenizer.vocabulary_size, model.vocabulary_size)]),
        seed=seed,
        context=model.context_length,
    )
    written: list[list[int]] = [[] for _ in range(samples)]
    shown = ""
    for next_B in steps:
        for sample, token in zip(written, next_B.tolist(), strict=True):
            sample.append(token)
        if show is not None:
            text = tokenizer.decode(written[0])
            # A character whose bytes are split between tokens is a replacement character until it is whole.
            if not text.endswith("\N{REPLACEMENT CHARACTER}"):
                show(text[len(shown) :])
                shown = text
    texts = [tokenizer.decode(sample) for sample in written]
    if show is not None:
        show(texts[0][len(shown) :])
    return texts
