"""What checks work with: an objective, rows of a text, and tiny models, all by the code that a run uses."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import nn

from ntp.config.errors import ConfigError
from ntp.data.collate import collate
from ntp.data.datasets import BatchMaker
from ntp.data.example import Batch, Draw, Example, Row
from ntp.data.store import TokenStore
from ntp.data.tokenizers import Tokenizer
from ntp.data.windows import Documents, Windows
from ntp.models.base import LanguageModel
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.transformer import Transformer
from ntp.objectives.base import LossTerms, Objective, Scorer
from ntp.testing.corpus import MemoryStore, byte_tokenizer, documents, subword_tokenizer
from ntp.training.setup import bind

SEQUENCE_LENGTH = 64
REGIMES: tuple[Documents, ...] = ("isolate", "concatenate")
BATCH = 8
"""Rows of a global batch, for the strata of draws."""

ModelFactory = Callable[[int], LanguageModel]


@dataclass(frozen=True)
class Sample:
    """A raw row with its draw, and where it comes from.

    Attributes:
        windows: of which it is a row.
        index: which of them.
        row: itself.
        draw: its randomness.
    """

    windows: Windows
    index: int
    row: Row
    draw: Draw

    def __str__(self) -> str:
        kind = ", drawn for evaluation" if self.draw.evaluation else ""
        return f"row {self.index} of the text (documents {self.windows.documents}d{kind})"

    def part(self, begin: int, end: int) -> Sample:
        """A part of the row, with the same draw."""
        return replace(self, row=self.row.part(begin, end))

    def redrawn(self, **changes: Any) -> Sample:
        """The same row with another draw."""
        return replace(self, draw=replace(self.draw, **changes))


@dataclass(frozen=True)
class Subject:
    """An objective that is bound, and the model that it is bound to.

    Attributes:
        objective: bound.
        model: in evaluation mode.
        label: what the model is called in messages.
    """

    objective: Objective
    model: LanguageModel
    label: str

    def loss(self, batch: Batch, model: Scorer | None = None) -> LossTerms:
        """The objective's loss of a batch."""
        return self.objective.loss(self.model if model is None else model, batch)

    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained, by name."""
        both = {"model": self.model, "objective": self.objective}
        return {
            f"{part}.{name}": one
            for part, module in both.items()
            for name, one in module.named_parameters()
            if one.requires_grad
        }


class Bench:
    """One objective, ready to be checked.

    Args:
        objective: an objective that is not bound, its class, or a function that makes one.
        tokenizer: of the rows; None for a small byte-level BPE.
        corpus: documents, or a store of them; None for the kit's own.
        model: one, or a function that makes one for a size of vocabulary; None for tiny ones.
        sequence_length: positions of a row.
        quick: checks are to look at fewer rows.

    Attributes:
        name: of the objective's class.
    """

    def __init__(
        self,
        objective: Objective | Callable[[], Objective],
        *,
        tokenizer: Tokenizer | None = None,
        corpus: Sequence[str] | TokenStore | None = None,
        model: LanguageModel | ModelFactory | None = None,
        sequence_length: int = SEQUENCE_LENGTH,
        quick: bool = False,
    ) -> None:
        self.source, self.given_model = objective, model
        self.sequence_length, self.quick = sequence_length, quick
        probe = self.make()
        self.name = type(probe).__name__
        special = tuple(probe.special_tokens())
        self.tokenizer = subword_tokenizer(_beyond(subword_tokenizer(), special)) if tokenizer is None else tokenizer
        texts = documents() if corpus is None else corpus
        self.store = texts if isinstance(texts, TokenStore) else _stored(tuple(texts), self.tokenizer)

    @contextlib.contextmanager
    def seeded(self) -> Iterator[None]:
        """Whatever torch draws here is the same every time, and leaves the caller's generator alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield

    # -- the objective and its models --

    def make(self) -> Objective:
        """A fresh objective, not bound."""
        if isinstance(self.source, Objective):
            return copy.deepcopy(self.source)
        made = self.source()
        if not isinstance(made, Objective):
            raise TypeError(f"an objective is needed, or what makes one without arguments; not {made!r}")
        return made

    def bound(self, seed: int = 0, model: ModelFactory | None = None, label: str = "Transformer") -> Subject:
        """A fresh objective, bound to a fresh model.

        Args:
            seed: of all weights.
            model: makes the model; None for the first of `models`.
            label: what it is called.

        Raises:
            ConfigError: the objective refuses the tokenizer, the model or the length of rows.
        """
        if model is None:
            label, model = next(iter(self.models.items()))
        torch.manual_seed(seed)
        built = model(self.tokenizer.vocabulary_size).eval()
        objective = self.make()
        bind(objective, self.tokenizer, built, self.sequence_length, seed)
        return Subject(objective.eval(), built, label)

    @cached_property
    def subject(self) -> Subject:
        """One that is bound already, for checks that leave it as it is."""
        return self.bound()

    @property
    def subjects(self) -> Iterator[Subject]:
        """One for each model."""
        yield self.subject
        for label, model in list(self.models.items())[1:]:
            yield self.bound(model=model, label=label)

    @cached_property
    def models(self) -> dict[str, ModelFactory]:
        """How to make each of the models that the objective is checked with, by name."""
        given = self.given_model
        if isinstance(given, LanguageModel):
            return {type(given).__name__: lambda vocabulary_size: copy.deepcopy(given)}
        if given is not None:
            return {"the given model": given}
        made: dict[str, ModelFactory] = {"Transformer": tiny_transformer}
        if self.make().attentions == {"prefix"}:
            made["EncoderDecoder"] = tiny_encoder_decoder
        return made

    @cached_property
    def bytewise(self) -> Bench | None:
        """The same on the kit's own text with a token for every byte: to change one changes one token of a row.

        None for an objective that refuses it.
        """
        special = tuple(self.make().special_tokens())
        tokenizer = byte_tokenizer(_beyond(byte_tokenizer(), special))
        model = None if isinstance(self.given_model, LanguageModel) else self.given_model
        other = Bench(
            self.source,
            tokenizer=tokenizer,
            model=model,
            sequence_length=self.sequence_length,
            quick=self.quick,
        )
        try:
            other.subject  # noqa: B018 - binding it is the question
        except ConfigError:
            return None
        return other

    @cached_property
    def works_by_documents(self) -> bool:
        """Whether whole documents are corrupted, so that a row may hold text that its window does not."""
        with mock.patch.object(Draw, "document_rng", autospec=True, side_effect=Draw.document_rng) as asked:
            for sample in self.samples("isolate", 4):
                self.subject.objective.corrupt(sample.row, sample.draw)
        return bool(asked.called)

    # -- rows --

    def windows(
        self, documents: Documents, store: TokenStore | None = None, wrap: bool = False, objective: Any = None
    ) -> Windows:
        """Windows of the text, as long as the objective wants its rows."""
        objective = self.subject.objective if objective is None else objective
        stride = objective.raw_length(self.sequence_length) - objective.lookahead
        return Windows(self.store if store is None else store, stride, objective.lookahead, documents, wrap)

    def samples(
        self, documents: Documents, count: int, *, evaluation: bool = False, seed: int = 0, epoch: int = 0
    ) -> list[Sample]:
        """Rows spread over the text, the first and the short last one among them, each with a draw of its own."""
        windows = self.windows(documents)
        chosen = np.linspace(0, len(windows) - 1, min(count, len(windows))).round().astype(int)
        samples = []
        for number, index in enumerate(chosen.tolist()):
            progress = None if evaluation else number / len(chosen)
            draw = Draw(seed, epoch, index, (number % BATCH, BATCH), progress, evaluation)
            samples.append(Sample(windows, index, windows.row(index), draw))
        return samples

    def full_samples(self, documents: Documents, count: int) -> list[Sample]:
        """Rows of full length with their draws, those of several documents first where documents are isolated."""
        windows = self.windows(documents)
        samples = self.samples(documents, len(windows))
        full = [one for one in samples if len(one.row) == windows.length] or samples
        return sorted(full, key=lambda one: -min(3, int(one.row.segments[-1])))[:count]

    def mixed_samples(self, count: int) -> list[Sample]:
        """Rows of both regimes, drawn for training and for evaluation."""
        share = max(2, count // 3)
        return [
            *self.samples("isolate", share),
            *self.samples("concatenate", share),
            *self.samples("isolate", share, evaluation=True),
        ]

    def batch(self, subject: Subject, samples: Sequence[Sample], length: int | None = None) -> Batch:
        """Corrupt and collate, as the data module does."""
        length = self.sequence_length if length is None else length
        maker = BatchMaker(subject.objective, length, self.tokenizer.token_bytes, self.tokenizer.padding)
        return maker([(one.row, one.draw) for one in samples])

    def collated(self, subject: Subject, examples: Sequence[Example]) -> Batch:
        """A batch of examples that exist already."""
        return collate(
            examples,
            self.sequence_length,
            subject.objective.attention,
            self.tokenizer.token_bytes,
            self.tokenizer.padding,
        )

    def store_of(self, tokens: Sequence[Sequence[int]]) -> MemoryStore:
        """A store of hand-made documents."""
        flat = np.concatenate([np.array(one, dtype=np.int64) for one in tokens])
        return MemoryStore(flat, self.tokenizer.token_bytes[flat], np.cumsum([0, *map(len, tokens)]))


def tiny_transformer(vocabulary_size: int) -> LanguageModel:
    """Two layers whose weights are large enough for every part to matter.

    Queries and keys are normalised: no attention weight is so small that what it lets through is lost in rounding.
    """
    return Transformer(
        vocabulary_size, width=32, layers=2, heads=2, mlp_width=48, qk_norm=True, init_std=0.2, context_length=None
    )


def tiny_encoder_decoder(vocabulary_size: int) -> LanguageModel:
    """The same with a source and a target."""
    return EncoderDecoder(
        vocabulary_size,
        width=32,
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        mlp_width=48,
        qk_norm=True,
        init_std=0.2,
    )


def _beyond(tokenizer: Tokenizer, special: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(tokenizer.missing_special_tokens(special))


@lru_cache(maxsize=8)
def _stored(texts: tuple[str, ...], tokenizer: Tokenizer) -> MemoryStore:
    return MemoryStore.of(texts, tokenizer)
