"""Write on from a prompt, left to right, reading each token once.

Legend: B samples, T tokens so far, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ntp.generation.mode import evaluating
from ntp.generation.sampling import Sampling
from ntp.models.base import LanguageModel
from ntp.models.cache import KVCache
from ntp.objectives.query import Drafter


class Reader:
    """A growing text on its way through a model. What has been read stays in a cache.

    A causal model with a limited context reads on from the last half of it when it is full.

    Args:
        model: with a KV cache.
        prompt: tokens of the prompt.
        attention: among them; ``full`` reads the prompt in one go, and what follows causally.
        context: positions that the model can read; None for any number. A prompt that is read in full and all that
            follows it must fit.
        capacity: positions that will be read.

    Attributes:
        start: where in the text the model's view of it begins.
        calls: how often the model has been asked.
    """

    def __init__(
        self,
        model: LanguageModel,
        prompt: int,
        attention: Literal["causal", "full"] = "causal",
        context: int | None = None,
        capacity: int = 64,
    ) -> None:
        self.model, self.prompt, self.attention, self.context = model, prompt, attention, context
        self.capacity = capacity if context is None else min(capacity, context)
        self.start = self.calls = 0
        self.cache = KVCache(self.capacity)

    def read(self, text_BT: Tensor) -> Tensor:
        """Hidden states of what has not been read yet; the last one predicts what comes next, the one before it the
        last token, and so on."""
        length = text_BT.shape[1]
        if self.attention == "causal" and self.context is not None and length - self.start > self.context:
            self.start, self.cache = length - max(1, self.context // 2), KVCache(self.capacity)
        pieces = []
        if self.attention == "full" and self.cache.length == 0:
            pieces.append(self._forward(text_BT[:, : self.prompt], "full"))
        if (begin := self.start + self.cache.length) < length:
            pieces.append(self._forward(text_BT[:, begin:], "causal"))
        return torch.cat(pieces, dim=1)

    def _forward(self, tokens_BT: Tensor, attention: Literal["causal", "full"]) -> Tensor:
        self.calls += 1
        hidden_BTD: Tensor = self.model(tokens_BT, attention=attention, cache=self.cache)
        return hidden_BTD

    def room(self, length: int) -> int | None:
        """How many tokens behind a text of ``length`` can be read without reading anew; None for any number."""
        if self.context is None:
            return None
        # Reading that text itself may make room.
        return self.context - (length - self.start) if length - self.start <= self.context else 0

    def forget(self, length: int) -> None:
        """Unread the text from position ``length`` on."""
        self.cache.truncate(length - self.start)


@torch.inference_mode()
def continue_tokens(
    model: LanguageModel,
    prompt_T: Tensor,
    *,
    tokens: int,
    samples: int = 1,
    sampling: Sampling,
    stop: Sequence[int] = (),
    forbidden: Tensor | None = None,
    attention: Literal["causal", "full"] = "causal",
    forced: Sequence[int] = (),
    seed: int = 0,
    context: int | None = None,
) -> Iterator[Tensor]:
    """Yield the next token of every sample, one step at a time.

    Args:
        model: with a KV cache.
        prompt_T: [T] int64, at least one token; the same for all samples.
        tokens: how many to write at most.
        samples: B.
        sampling: how to choose.
        stop: ids that end a sample, which then yields the one that ended it for ever.
        forbidden: ids that are never chosen, such as those that are no text.
        attention: among the tokens of the prompt.
        forced: ids that stand between the prompt and what is written, and are read causally.
        seed: of the samples.
        context: see `Reader`.

    Yields:
        [B] int64 on the model's device.

    Raises:
        ValueError: the prompt is empty.
    """
    device, generator, text_BT = _begin(model, prompt_T, samples, forced, seed)
    stop_S = torch.tensor(list(stop), dtype=torch.long, device=device)
    ended_B = torch.zeros(samples, dtype=torch.bool, device=device)
    reader = Reader(model, prompt_T.numel(), attention, context, text_BT.shape[1] + tokens)
    with evaluating(model):
        for _ in range(tokens):
            logits_BV = model.logits(reader.read(text_BT)[:, -1])
            if forbidden is not None:
                logits_BV[:, forbidden] = -torch.inf
            next_B = torch.where(ended_B, text_BT[:, -1], sampling.choose(logits_BV, text_BT, generator))
            ended_B |= torch.isin(next_B, stop_S)
            yield next_B
            text_BT = torch.cat([text_BT, next_B[:, None]], dim=1)
            if bool(ended_B.all()):
                return


@dataclass
class Guesses:
    """How speculative decoding went.

    Attributes:
        written: tokens.
        calls: how often the model was asked; without guesses it is once for each token.
        made: guesses that the model has judged.
        accepted: those that it would have written itself.
    """

    written: int = 0
    calls: int = 0
    made: int = 0
    accepted: int = 0


@torch.inference_mode()
def speculate_tokens(
    model: LanguageModel,
    drafter: Drafter,
    prompt_T: Tensor,
    guesses: Guesses,
    *,
    tokens: int,
    sampling: Sampling,
    stop: Sequence[int] = (),
    forbidden: Tensor | None = None,
    seed: int = 0,
    context: int | None = None,
) -> Iterator[Tensor]:
    """The tokens of `continue_tokens`, several of them for each time that the model reads.

    A drafter guesses what comes; the model reads all guesses at once, which tells for each of them what it would have
    written there itself. What is chosen is always its own: a guess that differs is dropped, with all behind it. So
    every token is drawn from the model's distribution, with the random number that it would get without guesses, and
    the text is the same up to ties that rounding decides. (The scheme of arXiv 2211.17192 for a drafter without chance
    of its own; with the heads of a model trained for it, the self-speculation of arXiv 2404.19737, section 3.2.)

    Args:
        drafter: guesses ahead, from the hidden states of this model.
        guesses: counts.

    The other arguments, and what is yielded, are those of `continue_tokens` for one sample.
    """
    _, generator, text_BT = _begin(model, prompt_T, 1, (), seed)
    reader = Reader(model, prompt_T.numel(), "causal", context, text_BT.shape[1] + tokens)

    def choose(logits_BV: Tensor, before_BT: Tensor) -> Tensor:
        if forbidden is not None:
            logits_BV[:, forbidden] = -torch.inf
        return sampling.choose(logits_BV, before_BT, generator)

    def guess(logits_BV: Tensor) -> Tensor:
        if forbidden is not None:
            logits_BV[:, forbidden] = -torch.inf
        return logits_BV.argmax(1)

    caches: list[KVCache] = []
    hidden_BTD = guessed_BK = None
    start = -1
    with evaluating(model):
        while guesses.written < tokens:
            known = text_BT.shape[1]
            attempt_BT = text_BT if guessed_BK is None else torch.cat([text_BT, guessed_BK], dim=1)
            new_BTD = reader.read(attempt_BT)
            guesses.calls = reader.calls
            if reader.start != start:
                start, caches = reader.start, [KVCache(reader.capacity) for _ in range(drafter.depth)]
                hidden_BTD = new_BTD
            else:
                assert hidden_BTD is not None
                hidden_BTD = torch.cat([hidden_BTD, new_BTD], dim=1)
            count = attempt_BT.shape[1] - known
            for index in range(count + 1):
                next_B = choose(model.logits(new_BTD[:, index - count - 1]), text_BT)
                text_BT = torch.cat([text_BT, next_B[:, None]], dim=1)
                guesses.written += 1
                right = index < count and bool((next_B == attempt_BT[:, known + index]).all())
                guesses.made += index < count
                guesses.accepted += right
                yield next_B
                if int(next_B) in stop or guesses.written == tokens:
                    return
                if not right:
                    break
            # All that is known has been read, but for the token that was chosen last.
            read = text_BT.shape[1] - 1
            reader.forget(read)
            hidden_BTD = hidden_BTD[:, : read - start]
            room = reader.room(read + 1)
            most = min(drafter.depth, tokens - guesses.written - 1, drafter.depth if room is None else room)
            guessed_BK = None
            if most > 0:
                guessed_BK = drafter.draft(model, text_BT[:, start:], hidden_BTD, caches, guess)[:, :most]


def _begin(
    model: LanguageModel, prompt_T: Tensor, samples: int, forced: Sequence[int], seed: int
) -> tuple[torch.device, torch.Generator, Tensor]:
    if prompt_T.numel() == 0:
        raise ValueError("an empty prompt says nothing to continue; begin with the end-of-text token")
    device = next(model.parameters()).device
    text_T = torch.cat([prompt_T, torch.tensor(list(forced), dtype=prompt_T.dtype)])
    return device, torch.Generator(device).manual_seed(seed), text_T.to(device).expand(samples, -1)
