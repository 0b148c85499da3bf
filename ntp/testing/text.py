"""What an example has to do with the text that it was made of."""

import numpy as np

from ntp.data.example import IGNORE, Example
from ntp.data.special_tokens import MASK, PADDING
from ntp.testing.bench import REGIMES, Bench, Sample
from ntp.testing.errors import Broken, NotApplicable
from ntp.testing.perturbation import vary
from ntp.testing.registry import check


@check(quick=True)
def bytes_are_counted_once(bench: Bench) -> None:
    """Bytes are those of the text: none is counted twice, and targets have the bytes that they stand for."""
    objective, tokenizer = bench.subject.objective, bench.tokenizer
    for sample in bench.mixed_samples(18 if bench.quick else 60):
        example = objective.corrupt(sample.row, sample.draw)
        trained = np.flatnonzero(example.targets != IGNORE)
        table = tokenizer.token_bytes[example.targets[trained]]
        spoken = int(table.sum() if example.target_bytes is None else example.target_bytes.sum())
        there = int(sample.row.bytes.sum())
        if example.target_bytes is not None and (example.target_bytes < 0).any():
            raise Broken(f"{sample}: target_bytes has numbers below 0", "target_bytes")
        if spoken > there and not bench.works_by_documents:
            problem = f"{sample}: the loss speaks for {spoken} bytes of a row of {there}"
            raise Broken(problem, "target_bytes: each byte of the row once; take them from row.bytes")
        if example.target_bytes is not None and tokenizer.lossless:
            wrong = np.flatnonzero(example.target_bytes[trained] != table)
            if len(wrong):
                position = int(trained[wrong[0]])
                problem = (
                    f"{sample}, position {position}: target_bytes is {example.target_bytes[position]}, and the target "
                    f"{_named(bench, example.targets[position])} stands for {table[wrong[0]]}"
                )
                raise Broken(problem, "the alignment of target_bytes, which is that of targets")
        read = 0 if example.read_bytes is None else example.read_bytes
        if read > there and not bench.works_by_documents:
            raise Broken(f"{sample}: read_bytes is {read}, and the row has {there}", "read_bytes")
    samples = bench.samples("isolate", 10**6)
    batch = bench.batch(bench.subject, samples)
    for name, total in (("read_bytes", batch.read_bytes), ("target_bytes", batch.target_bytes)):
        if total > bench.store.total_bytes:
            problem = f"over all rows of a text of {bench.store.total_bytes} bytes, {name} sum to {total}"
            raise Broken(problem, f"{name}, and lookahead: what a row only looks ahead to is read by the next one")


@check(quick=True)
def special_tokens_are_left_alone(bench: Bench) -> None:
    """Special tokens are neither corrupted nor made up: those of the text stay, and others have been asked for."""
    objective, tokenizer = bench.subject.objective, bench.tokenizer
    asked = {tokenizer.token_to_id(name) for name in objective.special_tokens()}
    # A family of special tokens is asked for by its first.
    families = {_family(name) for name in objective.special_tokens()}
    allowed = asked | {tokenizer.end_of_text}
    allowed |= {index for name, index in tokenizer.special_tokens.items() if _family(name) in families}
    special_V = np.zeros(tokenizer.vocabulary_size, dtype=bool)
    special_V[sorted(tokenizer.special_ids)] = True
    never = {tokenizer.token_to_id(name): name for name in (MASK, PADDING)}
    never.pop(tokenizer.end_of_text, None)
    samples = bench.mixed_samples(18 if bench.quick else 60)
    examples = [objective.corrupt(sample.row, sample.draw) for sample in samples]
    for sample, example in zip(samples, examples, strict=True):
        mine = set(sample.row.tokens[special_V[sample.row.tokens]].tolist())
        for name in ("tokens", "targets"):
            ids = getattr(example, name)
            for position in np.flatnonzero((ids >= 0) & special_V[np.maximum(ids, 0)]).tolist():
                token = int(ids[position])
                place = f"{sample}, position {position}"
                if token not in mine | allowed:
                    problem = f"{place}: {name} has {_named(bench, token)}, which special_tokens() does not ask for"
                    raise Broken(problem, "random tokens drawn from the whole vocabulary; draw from tokenizer.text_ids")
                if name == "targets" and token in never:
                    raise Broken(f"{place}: the target is {never[token]}", "targets taken from what was masked already")
    _check_in_place(bench, samples, examples, special_V)


def _family(name: str) -> str:
    return name.rstrip("0123456789|>")


def _check_in_place(bench: Bench, samples: list[Sample], examples: list[Example], special_V: np.ndarray) -> None:
    """Rows whose tokens are read where they stand in the text: there each special token can be found again."""
    objective, mask = bench.subject.objective, bench.tokenizer.token_to_id(MASK)
    in_place = [
        (sample, example, np.flatnonzero(special_V[sample.row.tokens[: len(example)]]))
        for sample, example in zip(samples, examples, strict=True)
        if special_V[sample.row.tokens[: len(example)]].any() and _reads_in_place(bench, sample, example)
    ]
    fills_in = all(
        (example.targets[trained] == sample.row.tokens[trained]).all()
        for sample, example, _ in in_place
        for trained in [np.flatnonzero(example.targets != IGNORE)]
    )
    speaks_for_all = objective.likelihood in ("exact", "bound")
    for sample, example, places in in_place:
        for position in places.tolist():
            original, read = sample.row.tokens[position], example.tokens[position]
            place = f"{sample}, position {position}: {_named(bench, original)} of the text"
            if read != original and not (read == mask and speaks_for_all):
                problem = f"{place} is read as {_named(bench, read)}"
                raise Broken(problem, "which tokens are candidates: only those of tokenizer.text_ids")
            if fills_in and not speaks_for_all and example.targets[position] != IGNORE:
                problem = f"{place} must be guessed, although the loss is no likelihood of the whole text"
                raise Broken(problem, "which tokens are candidates: only those of tokenizer.text_ids")


def _reads_in_place(bench: Bench, sample: Sample, example: Example) -> bool:
    """Whether another token of the row changes what is read at its own index, and nowhere else."""
    if len(example) > len(sample.row):
        return False
    places = np.linspace(0, len(sample.row) - 1, min(len(sample.row), 20)).round().astype(int)
    variants = vary(bench, bench.subject, sample, [np.array([place]) for place in places])
    changes = [np.flatnonzero(one.tokens != variants.base.tokens) for one in variants.examples]
    at_home = [np.array_equal(change, place) for change, place in zip(changes, variants.places, strict=True)]
    return sum(at_home) >= 4 and all(fits or not len(change) for fits, change in zip(at_home, changes, strict=True))


@check(quick=True)
def the_end_of_a_text_is_learned(bench: Bench) -> None:
    """Where the loss is a likelihood of the text, the end-of-text token is a target like any other."""
    objective, end = bench.subject.objective, bench.tokenizer.end_of_text
    if objective.likelihood not in ("exact", "bound"):
        raise NotApplicable(f"the loss is of kind '{objective.likelihood}'")
    ends = 0
    for documents in REGIMES:
        for sample in bench.samples(documents, 120):
            example = objective.corrupt(sample.row, sample.draw)
            if (example.targets == end).any():
                return
            ends += int((sample.row.tokens == end).sum())
    if ends < 20:
        raise NotApplicable("the text has too few documents")
    problem = f"rows with {ends} end-of-text tokens have none among their targets"
    raise Broken(problem, "padding that is told by the id of the end of text; padding is known by its segment alone")


@check(quick=True)
def the_text_can_be_restored(bench: Bench) -> None:
    """What restore gives is the text of the row, from its beginning on."""
    objective = bench.subject.objective
    given = read = 0
    claimed = False
    for sample in [*bench.mixed_samples(24), *bench.full_samples("isolate", 8)]:
        example = objective.corrupt(sample.row, sample.draw)
        tokens = objective.restore(example)
        if tokens is None:
            continue
        claimed = True
        restored, original = _spelled(bench, np.asarray(tokens)), _spelled(bench, sample.row.tokens)
        # A row may begin inside a character, whose remaining bytes are then no text.
        if not any(original[skipped:].startswith(restored) for skipped in range(4 if bench.tokenizer.lossless else 1)):
            same = next((i for i, (a, b) in enumerate(zip(restored, original, strict=False)) if a != b), len(original))
            here = slice(max(0, same - 10), same + 10)
            problem = f"{sample}, byte {same}: restored {restored[here]!r}, the text is {original[here]!r}"
            raise Broken(problem, "restore, or a token that corrupt lost, repeated or put elsewhere")
        given += len(restored)
        ahead = sample.row.bytes[: len(sample.row) - objective.lookahead]
        read += int(ahead.sum()) if example.read_bytes is None else example.read_bytes
    if not claimed:
        raise NotApplicable("restore claims nothing")
    if given < read / 2:
        problem = f"of {read} bytes that were read, {given} are restored"
        raise Broken(problem, "restore: return None where nothing is claimed")


def _spelled(bench: Bench, tokens: np.ndarray) -> bytes:
    """The text of tokens, without special ones."""
    tokenizer = bench.tokenizer
    if not tokenizer.lossless:
        return tokenizer.decode(tokens.tolist()).encode()
    texts = tokenizer.token_texts
    return b"".join(texts[one] for one in tokens.tolist())


def _named(bench: Bench, token: int) -> str:
    return f"'{bench.tokenizer.id_to_token(int(token))}'"
