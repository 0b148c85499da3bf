"""Objectives with tiny models that answer questions, and the same answers by hand: one token at a time."""

from collections.abc import Iterable, Sequence
from itertools import permutations

import numpy as np
import torch

from ntp.data.special_tokens import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX, MODES, sentinel
from ntp.data.tokenizers import Bytes
from ntp.evaluation.candidate import Candidate
from ntp.evaluation.examinee import TextQuestion
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.objectives.base import Context
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.fim import FillInTheMiddle
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mixture import Mixture
from ntp.objectives.mlm import MaskedLanguageModel
from ntp.objectives.multi_token import MultiTokenPrediction
from ntp.objectives.permutation import PermutationLM
from ntp.objectives.prefix_lm import PrefixLM
from ntp.objectives.span_corruption import SpanCorruption
from tests.objectives.making import MASK_ID, transformer

ROOM = 64
TOKENIZER = Bytes(sentinels=16).train()
SPECIAL = TOKENIZER.special_tokens
PRE, SUF, MID = (SPECIAL[one] for one in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
S0, S1 = SPECIAL[sentinel(0)], SPECIAL[sentinel(1)]
MODE = MODES[0]

MAKE = {
    "causal": Causal,
    "multi_token": MultiTokenPrediction,
    "fim": FillInTheMiddle,
    "fim, suffix first": lambda: FillInTheMiddle(spm_rate=1.0),
    "fim, never moved": lambda: FillInTheMiddle(rate=0.0),
    "prefix_lm": PrefixLM,
    "prefix_lm, mode": lambda: PrefixLM(mode_token=MODE),
    "span_corruption": SpanCorruption,
    "span_corruption, rolled": lambda: SpanCorruption(random_roll=True, mode_token=MODE),
    "mlm": MaskedLanguageModel,
    "masked_diffusion": MaskedDiffusion,
    "block_diffusion": lambda: BlockDiffusion(block_size=3),
    "block_diffusion, blocks of one": lambda: BlockDiffusion(block_size=1),
    "permutation": PermutationLM,
    "mixture": lambda: Mixture({"left": Causal(), "any": MaskedLanguageModel()}),
}


def answering(objective, *, isolated: bool = True, encoder_decoder: bool = False, room: int = ROOM, **options):
    """A candidate with a random model."""
    objective.bind(Context(room, TOKENIZER, width=16, make_stack=lambda layers, width: None))
    return Candidate(
        seq2seq() if encoder_decoder else transformer(), objective.eval(), TOKENIZER, isolated, room, **options
    )


def seq2seq():
    torch.manual_seed(0)
    return EncoderDecoder(TOKENIZER.vocabulary_size, width=16, heads=4, init_std=0.3).eval()


def nats(candidate, kind, before, target, after="", **ends) -> float:
    """The answer to one question."""
    return float(candidate.score([TextQuestion(kind, before, target, after, **ends)]).nats[0])


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text).tolist()


@torch.no_grad()
def predicted(model, tokens: Sequence[int], position: int, token: int, excluded: int | None = None, **rule) -> float:
    """Nats of a token at a position of a row, by a plain softmax over the model's scores."""
    fields = {name: torch.tensor([one]) if name != "attention" else one for name, one in rule.items()}
    logits = model.logits(model(torch.tensor([tokens]), **({"attention": "causal"} | fields))[0, position]).double()
    if excluded is not None:
        logits[excluded] = -torch.inf
    return float(-torch.log_softmax(logits, -1)[token])


def causal_chain(model, prompt: Sequence[int], answer: Sequence[int]) -> float:
    """Each token from a forward of its own over all that stands before it."""
    total, text = 0.0, list(prompt)
    for token in answer:
        total += predicted(model, text, len(text) - 1, token)
        text.append(token)
    return total


def prefix_chain(model, source: Sequence[int], forced: Sequence[int], answer: Sequence[int]) -> float:
    """Likewise behind a source that sees itself."""
    total, text = 0.0, [*source, *forced]
    for token in answer:
        order = [0] * len(source) + list(range(1, len(text) - len(source) + 1))
        total += predicted(model, text, len(text) - 1, token, attention="prefix", order=order)
        text.append(token)
    return total


def unmasked_in(model, text: Sequence[int], order: Iterable[int], excluded: int | None) -> float:
    """The places of a text in an order, each from what is known then, the others masked."""
    unknown, total = list(order), 0.0
    while unknown:
        read = [MASK_ID if place in unknown else token for place, token in enumerate(text)]
        place = unknown.pop(0)
        total += predicted(model, read, place, text[place], excluded, attention="full")
    return total


def queried_in(model, text: Sequence[int], order: Sequence[int]) -> float:
    """The places of a text in an order, each by a query behind the contents that are known then."""
    total = 0.0
    for rank, place in enumerate(order):
        known = [one for one in range(len(text)) if one not in order[rank:]]
        ranks = [2 * order.index(one) + 2 if one in order else 0 for one in known]
        total += predicted(
            model,
            [*(text[one] for one in known), MASK_ID],
            len(known),
            text[place],
            attention="ordered",
            order=[*ranks, 2 * rank + 1],
            private=[*[False] * len(known), True],
            positions=[*known, place],
        )
    return total


def blocks_in(objective, model, text: Sequence[int], known: int, excluded: int | None) -> float:
    """Blocks from left to right, and over all orders within each; every token read as inference reads it."""
    size, total = objective.block_size, 0.0
    for begin in range(known // size * size, len(text), size):
        asked = range(max(known, begin), min(begin + size, len(text)))
        orders = list(permutations(asked))
        for order in orders:
            for rank, place in enumerate(order):
                read = torch.tensor([text[: asked[-1] + 1]])
                read[0, list(order[rank:])] = MASK_ID
                with torch.no_grad():
                    logits = model.logits(objective._read(model, read, read != MASK_ID)[0, place]).double()
                if excluded is not None:
                    logits[excluded] = -torch.inf
                total += float(-torch.log_softmax(logits, -1)[text[place]]) / len(orders)
    return total


def mean_over_orders(chain, places: Sequence[int]) -> float:
    """The mean of a code length over all orders of some places."""
    return float(np.mean([chain(order) for order in permutations(places)]))
