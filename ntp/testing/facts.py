"""What an objective says about itself."""

from typing import get_args

import numpy as np
import torch

from ntp.data.example import Attention
from ntp.objectives.base import Inference
from ntp.objectives.query import Decode, Unmask, Unmasking
from ntp.objectives.question import Given, Likelihood, QuestionKind, Way
from ntp.testing.bench import Bench
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.registry import check


@check(quick=True)
def facts_are_legal(bench: Bench) -> None:
    """The class says what it is in the words that ntp knows."""
    objective = bench.make()
    for name, words in (("attention", get_args(Attention)), ("likelihood", get_args(Likelihood))):
        if getattr(objective, name, None) not in words:
            problem = f"{name} is {getattr(objective, name, None)!r}, which is none of {', '.join(words)}"
            raise Broken(problem, f"the class attribute {name}")
    for name, words in (("attentions", get_args(Attention)), ("inference", get_args(Inference))):
        if strange := sorted(set(getattr(objective, name)) - set(words)):
            raise Broken(f"{name} has {', '.join(strange)}", f"{name}; known are {', '.join(words)}")
    if objective.forms and "infill" not in objective.inference:
        raise Broken(f"forms are {objective.forms}, and inference has no infill", "forms, which are ways to infill")
    if len(set(objective.forms)) != len(objective.forms):
        raise Broken(f"forms has a name twice: {objective.forms}", "forms")
    if objective.shows_some_targets and objective.likelihood in ("exact", "bound"):
        problem = f"it shows some targets, and calls its loss an {objective.likelihood} likelihood"
        raise Broken(problem, "likelihood: what is shown is predicted for nothing; pseudo or none")
    for kind, way in objective.ways.items():
        _check_way(kind, way)
    if not all(isinstance(one, str) and one for one in objective.special_tokens()):
        raise Broken(f"special_tokens() gives {objective.special_tokens()!r}", "special_tokens, a tuple of names")


def _check_way(kind: str, way: Way) -> None:
    if kind not in get_args(QuestionKind) or not isinstance(way, Way):
        known = ", ".join(get_args(QuestionKind))
        raise Broken(f"ways has {kind!r}: {way!r}", f"ways, a Way for each kind of question; kinds are {known}")
    if way.likelihood not in ("exact", "bound", "pseudo") or set(way.given) - set(get_args(Given)):
        raise Broken(f"it answers questions to {kind} by {way}", "ways: the words for likelihood and given")
    if way.likelihood == "exact" and way.drawn:
        problem = f"it answers questions to {kind} exactly, and by estimates that are drawn"
        raise Broken(problem, "ways: the code length in an order that is drawn bounds that of their mixture")


@check(quick=True)
def rows_have_a_length(bench: Bench) -> None:
    """A row takes a positive number of tokens beyond those that it only looks ahead to."""
    objective = bench.subject.objective
    length, lookahead = objective.raw_length(bench.sequence_length), objective.lookahead
    for name, value in (("raw_length", length), ("lookahead", lookahead)):
        if not isinstance(value, int | np.integer) or value < 0:
            raise Broken(f"{name} is {value!r}", f"{name}, a whole number of tokens")
    if length <= lookahead:
        problem = f"raw_length({bench.sequence_length}) is {length}, of which {lookahead} are only looked ahead to"
        raise Broken(problem, "raw_length, which includes the lookahead")


@check(quick=True)
def costs_are_positive(bench: Bench) -> None:
    """A row costs a positive number of FLOPs, and no less with more targets."""
    subject, length = bench.subject, bench.sequence_length
    costs = [subject.objective.forward_flops(subject.model, length, targets) for targets in (0, 1, length)]
    if not all(isinstance(one, int | np.integer) for one in costs) or costs[0] <= 0 or sorted(costs) != costs:
        problem = f"forward_flops gives {costs} for 0, 1 and {length} targets"
        raise Broken(problem, "forward_flops: whole numbers that include the model's own")
    batch = bench.batch(subject, bench.samples("isolate", 4))
    if (cost := subject.objective.training_flops(subject.model, batch)) <= 0:
        raise Broken(f"training_flops of a batch is {cost}", "training_flops")


@check(quick=True)
def queries_are_well_formed(bench: Bench) -> None:
    """Whatever the objective claims to do at inference, it says how to ask for."""
    subject = bench.subject
    objective, size = subject.objective, bench.tokenizer.vocabulary_size
    if not objective.inference:
        raise NotApplicable("it claims no inference")
    text = bench.store.tokens[: bench.store.offsets[-1]].astype(np.int64)
    text = text[bench.tokenizer.token_bytes[text] > 0]
    prefix, suffix = np.concatenate(([bench.tokenizer.end_of_text], text[:5])), text[5:9]
    asked: list[tuple[str, np.ndarray | None, str | None]] = []
    if "continue" in objective.inference:
        asked.append(("continue", None, None))
    if "infill" in objective.inference:
        asked += [("infill", suffix, form) for form in objective.forms or (None,)]
    for kind, behind, form in asked:
        said = f"query to {kind}" + (f" in form {form}" if form else "")
        query = objective.query(prefix.copy(), None if behind is None else behind.copy(), 6, form)
        if isinstance(query, Decode):
            _check_decode(query, said, size)
            read = query.prompt
            model_attention = query.attention
        elif isinstance(query, Unmask):
            _check_unmask(query, said, size)
            read = query.tokens[~query.unknown]
        else:
            raise Broken(f"{said} gives {query!r}", "query, which returns a Decode or an Unmask")
        for name, part in (("prefix", prefix[1:]), ("suffix", behind)):
            if part is not None and not _contains(read, part):
                problem = f"{said} reads {read.tolist()}, in which the {name} {part.tolist()} does not stand"
                raise Broken(problem, f"query: the model must read the {name} as it is")
        tokens_1T = torch.from_numpy(np.asarray(query.prompt if isinstance(query, Decode) else query.tokens))[None]
        with torch.no_grad():
            if isinstance(query, Unmask) and query.read is not None:
                hidden = query.read(subject.model, tokens_1T, torch.from_numpy(~query.unknown)[None])
            else:
                kind_of = model_attention if isinstance(query, Decode) else "full"
                hidden = subject.model(tokens_1T, attention=kind_of)
        if tuple(hidden.shape) != (*tokens_1T.shape, subject.model.width) or not bool(hidden.isfinite().all()):
            problem = f"{said}: reading its {tokens_1T.shape[1]} tokens gives hidden states {tuple(hidden.shape)}"
            raise Broken(problem, "Unmask.read, which returns finite [B, T, D]")


def _check_decode(query: Decode, said: str, size: int) -> None:
    prompt = np.asarray(query.prompt)
    if prompt.ndim != 1 or not len(prompt) or not np.issubdtype(prompt.dtype, np.integer):
        raise Broken(f"{said} has the prompt {prompt!r}", "Decode.prompt: at least one id, as a flat array of integers")
    ids = [*prompt.tolist(), *query.stop, *query.forced]
    if min(ids) < 0 or max(ids) >= size:
        raise Broken(f"{said} has ids outside of 0 to {size - 1}: {ids}", "the ids in the Decode; was it bound?")
    if query.attention not in ("causal", "full"):
        raise Broken(f"{said} has attention {query.attention!r}", "Decode.attention, causal or full")


def _check_unmask(query: Unmask, said: str, size: int) -> None:
    tokens, unknown = np.asarray(query.tokens), np.asarray(query.unknown)
    if tokens.shape != unknown.shape or tokens.ndim != 1 or unknown.dtype != bool:
        raise Broken(f"{said} has {tokens.shape} tokens, and unknown is {unknown.shape} {unknown.dtype}", "Unmask")
    if tokens.min() < 0 or tokens.max() >= size:
        raise Broken(f"{said} has ids outside of 0 to {size - 1}", "the ids in the Unmask; was it bound?")
    if unknown.sum() != 6:
        raise Broken(f"{said} of 6 tokens has {unknown.sum()} unknown positions", "query and its argument length")
    if not (tokens[unknown] == query.mask).all() or (tokens[~unknown] == query.mask).any():
        raise Broken(f"{said}: the mask token stands elsewhere than where tokens are unknown", "Unmask.tokens")
    if query.block is not None and query.block < 1:
        raise Broken(f"{said} has a block of {query.block}", "Unmask.block, at least 1")
    if query.method not in get_args(Unmasking):
        raise Broken(f"{said} has method {query.method!r}", f"Unmask.method, one of {', '.join(get_args(Unmasking))}")


def _contains(sequence: np.ndarray, part: np.ndarray) -> bool:
    places = range(len(sequence) - len(part) + 1)
    return any(np.array_equal(sequence[place : place + len(part)], part) for place in places)
