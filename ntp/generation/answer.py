"""Text in, text out: what a model trained under any objective writes behind a text, or between two."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ntp.config.errors import ConfigError
from ntp.config.nearest import suggestion
from ntp.data.tokenizers import Tokenizer
from ntp.generation.continuation import Guesses, continue_tokens, speculate_tokens
from ntp.generation.mode import evaluating
from ntp.generation.sampling import Sampling
from ntp.generation.unmasking import unmask
from ntp.models.base import LanguageModel
from ntp.objectives.base import Objective
from ntp.objectives.query import Decode, Query, Unmask, Unmasking

_ASKED = {"continue": "continue a text (prompt='...')", "infill": "infill one (prefix='...' suffix='...')"}
_LEAD = 8


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        prefix: the text before.
        suffix: the text behind; None to continue.
        tokens: how many to write: at most, or exactly where the objective must know.
        form: one of the objective's forms of asking; None for its first.
        samples: how many answers.
        sampling: how to choose a token.
        stop_at_end: end a continuation at the end-of-text token; else it may go on with another document.
        method, steps, block: how unknown positions are filled; see `ntp.generation.unmasking.unmask`.
        speculate: let the objective's own heads guess ahead.
        seed: of the samples.
    """

    prefix: str
    suffix: str | None = None
    tokens: int = 256
    form: str | None = None
    samples: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    stop_at_end: bool = True
    method: Unmasking | None = None
    steps: int | None = None
    block: int | None = None
    speculate: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What was written.

    Attributes:
        texts: of each sample, without prefix and suffix.
        ended: whether each sample came to an end before it had as many tokens as it might.
        guesses: how speculation went; None without.
    """

    texts: list[str]
    ended: list[bool]
    guesses: Guesses | None = None


def answer(
    model: LanguageModel,
    objective: Objective,
    tokenizer: Tokenizer,
    request: Request,
    show: Callable[[str], None] | None = None,
    *,
    isolated: bool = False,
) -> Answer:
    """Ask a trained model.

    Args:
        model: trained under the objective.
        objective: bound.
        tokenizer: the run's.
        request: what to write.
        show: called with each new piece of the first sample as soon as it is readable.
        isolated: whether training kept documents apart. Otherwise each was read behind the end-of-text token of the one
            before, and so is the prefix. An empty prefix begins with that token in any case: there is no other.

    Raises:
        ConfigError: the objective cannot do what is asked, or it does not fit the model's context.
    """
    check(objective, request)
    end = tokenizer.end_of_text
    prefix = tokenizer.encode(request.prefix)
    if not isolated or not len(prefix):
        prefix = np.concatenate([[end], prefix])
    suffix = None if request.suffix is None else tokenizer.encode(request.suffix)
    query = objective.query(prefix, suffix, request.tokens, request.form)
    _check_query(query, request)
    write = _Writer(model, tokenizer, request, prefix, show)
    with evaluating(objective):
        return write.decoded(query) if isinstance(query, Decode) else write.unmasked(query)


def check(objective: Objective, request: Request) -> None:
    """Check that the objective can do what is asked.

    Raises:
        ConfigError: says what it can.
    """
    wanted = "continue" if request.suffix is None else "infill"
    can = " and ".join(text for name, text in _ASKED.items() if name in objective.inference)
    if not can:
        raise ConfigError("run", "its objective cannot write text: it neither continues nor infills")
    if wanted not in objective.inference:
        key = "prompt" if wanted == "continue" else "suffix"
        raise ConfigError(key, f"this run's objective cannot {wanted} a text; it can {can}")
    if request.form is not None and wanted == "continue":
        raise ConfigError("form", "is a way to ask for what stands between two texts; leave it out to continue one")
    if request.form is not None and request.form not in objective.forms:
        if not objective.forms:
            raise ConfigError("form", "this run's objective is asked in one way only; leave it out")
        known = suggestion(request.form, objective.forms) or f"; it has {', '.join(objective.forms)}"
        raise ConfigError("form", f"this run's objective has no form '{request.form}'{known}")


def _check_query(query: Query, request: Request) -> None:
    if isinstance(query, Unmask):
        if request.speculate:
            raise ConfigError("speculate", "this run's objective fills in masks, and has nothing to speculate about")
        if request.block is not None and query.block is not None and request.block != query.block:
            raise ConfigError("block", f"this run's objective has blocks of its own, of {query.block}; leave it out")
        return
    for key in ("method", "steps", "block"):
        if getattr(request, key) is not None:
            raise ConfigError(key, "is for objectives that fill in masks; this run's writes from left to right")
    if request.speculate and query.drafter is None:
        raise ConfigError("speculate", "this run's objective has no extra heads that could guess ahead; false")
    if request.speculate and request.samples > 1:
        raise ConfigError("speculate", "writes one sample at a time; take samples=1")


@dataclass
class _Writer:
    model: LanguageModel
    tokenizer: Tokenizer
    request: Request
    prefix: np.ndarray
    show: Callable[[str], None] | None

    def decoded(self, query: Decode) -> Answer:
        """From left to right, shown as it is written."""
        model, request, end = self.model, self.request, self.tokenizer.end_of_text
        # A middle always ends; only what follows a text may be followed by another.
        ends = request.stop_at_end or request.suffix is not None
        stop = sorted(query.stop | {end}) if ends else sorted(query.stop)
        common: dict[str, Any] = {
            "tokens": self._fitting(query),
            "sampling": request.sampling,
            "stop": stop,
            "forbidden": self._forbidden({end} | query.stop),
            "seed": request.seed,
            "context": model.context_length,
        }
        prompt_T = torch.from_numpy(query.prompt)
        guesses = Guesses() if request.speculate else None
        steps: Iterator[Tensor]
        if guesses is not None and query.drafter is not None:
            steps = speculate_tokens(model, query.drafter, prompt_T, guesses, **common)
        else:
            steps = continue_tokens(
                model, prompt_T, samples=request.samples, attention=query.attention, forced=query.forced, **common
            )
        written: list[list[int]] = [[] for _ in range(request.samples)]
        shown = ""
        for next_B in steps:
            for sample, token in zip(written, next_B.tolist(), strict=True):
                sample.append(token)
            if self.show is not None:
                text = self._text(self._cut(written[0], stop))
                # A character whose bytes are split between tokens is a replacement character until it is whole.
                if not text.endswith("\N{REPLACEMENT CHARACTER}"):
                    self.show(text[len(shown) :])
                    shown = text
        texts = [self._text(self._cut(sample, stop)) for sample in written]
        if self.show is not None:
            self.show(texts[0][len(shown) :])
        return Answer(texts, [any(one in stop for one in sample) for sample in written], guesses)

    def unmasked(self, query: Unmask) -> Answer:
        """In several steps, shown when the last is done."""
        model, request, end = self.model, self.request, self.tokenizer.end_of_text
        context, length = model.context_length, len(query.tokens)
        if context is not None and length > context:
            most = request.tokens - (length - context)
            raise ConfigError("tokens", f"{request.tokens} and what stands around them {self._too_long(context, most)}")
        continues = request.suffix is None
        steps = unmask(
            model,
            query,
            samples=request.samples,
            sampling=request.sampling,
            method=request.method,
            steps=request.steps,
            block=request.block,
            forbidden=self._forbidden({end} if continues else set()),
            seed=request.seed,
        )
        filled_BT = deque(steps, maxlen=1).pop()
        filled = filled_BT.cpu()[:, torch.from_numpy(query.unknown)].tolist()
        stop = [end] if continues and request.stop_at_end else []
        texts = [self._text(self._cut(sample, stop)) for sample in filled]
        if self.show is not None:
            self.show(texts[0])
        return Answer(texts, [not continues or any(one in stop for one in sample) for sample in filled])

    def _fitting(self, query: Decode) -> int:
        """How many tokens can be written. The past of some texts may be forgotten; what must be seen whole must fit."""
        context, wanted = self.model.context_length, self.request.tokens
        if context is None or (query.attention == "causal" and self.request.suffix is None):
            return wanted
        # The last token that is written need not be read.
        most = context - len(query.prompt) - len(query.forced) + 1
        if most < 1:
            key = "prompt" if self.request.suffix is None else "prefix"
            length = len(query.prompt) + len(query.forced)
            raise ConfigError(key, f"{length} tokens to read {self._too_long(context, None)}")
        return min(wanted, most)

    def _too_long(self, context: int, most: int | None) -> str:
        advice = "shorten the text" if most is None or most < 1 else f"at most {most} fit"
        return f"exceed the model's context of {context}; {advice}"

    def _forbidden(self, allowed: set[int]) -> Tensor:
        """Reserved tokens that training never showed have untrained logits; a text never holds them."""
        special = sorted(self.tokenizer.special_ids - allowed)
        beyond = range(self.tokenizer.vocabulary_size, self.model.vocabulary_size)
        return torch.tensor([*special, *beyond], dtype=torch.long)

    @staticmethod
    def _cut(ids: Sequence[int], stop: Sequence[int]) -> list[int]:
        return list(takewhile(lambda one: one not in stop, ids))

    def _text(self, ids: Sequence[int]) -> str:
        """Text of ids where they stand: some tokenizers leave out the space before the first word that they decode."""
        lead = self.prefix[-_LEAD:].tolist()
        before, whole = self.tokenizer.decode(lead), self.tokenizer.decode([*lead, *ids])
        return whole[len(before) :] if before and whole.startswith(before) else self.tokenizer.decode(ids)
