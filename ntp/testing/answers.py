"""How questions are answered: by rows whose losses are the likelihoods that they are said to be."""

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from ntp.objectives.question import Question
from ntp.testing.asking import Asked, another, asked, moved, owners, question_of, same_form, states, weights_of
from ntp.testing.bench import Bench
from ntp.testing.errors import Broken
from ntp.testing.perturbation import NOISE
from ntp.testing.randomness import difference
from ntp.testing.registry import check
from ntp.testing.shapes import check_arrays, check_attention

_ROUNDING = 1e-4
"""Relative difference of hidden states of rows of different forms, which go through kernels in different order."""


@check(quick=True)
def answers_repeat_themselves(bench: Bench) -> None:
    """The same question with the same draw always gives the same row, and stays as it is."""
    for one in asked(bench, bench.subject):
        draws = one.draws(2)
        texts = [one.question.before, one.question.target, one.question.after]
        originals = [text.copy() for text in texts]
        first = [one.answer(draw) for draw in draws]
        if not all(np.array_equal(*pair) for pair in zip(texts, originals, strict=True)):
            raise Broken(
                f"{one}: score changes it", "an assignment into the arrays of a question; copy before you write"
            )
        other = copy.deepcopy(one.objective)
        for draw, before in zip(reversed(draws), reversed(first), strict=True):
            for objective in (one.objective, other):
                if found := difference(before, objective.score(one.question, draw)):
                    problem = f"{one}: the row has other {found} when it is made again"
                    raise Broken(problem, "anything random in score that does not come from draw.rng, asked for once")
        others = [] if one.way.drawn else [one.answer(replace(draws[0], seed=seed)) for seed in range(1, 9)]
        for found in filter(None, (difference(first[0], row) for row in others)):
            problem = f"{one}: its way is not drawn, and another draw gives other {found}"
            raise Broken(problem, "ways: an estimate is drawn")


@check(quick=True)
def answers_fit(bench: Bench) -> None:
    """A row of an answer has the form of its attention and no more positions than score_length says, which grows."""
    end = np.array([bench.tokenizer.end_of_text])
    for one in asked(bench, bench.subject):
        lengths: dict[tuple[int, int, int], int] = {}
        for sizes in np.ndindex(4, 4, 4):
            before, target, after = (np.array((1, 1, 0)) + sizes).tolist()
            question = question_of(bench, one.kind, before, target, after)
            if question is None:
                continue
            length = one.objective.score_length(question)
            if not isinstance(length, int | np.integer):
                raise Broken(f"{one}: score_length is {length!r}", "score_length, a whole number of positions")
            for axis in range(3):
                smaller = tuple(size - (axis == number) for number, size in enumerate(sizes))
                if lengths.get(smaller, 0) > length:
                    problem = f"{before}, {target} and {after} tokens take {length} positions, and fewer take more"
                    raise Broken(f"{one}: {problem}", "score_length, which must not shrink where a part grows")
            lengths[sizes] = length
            if length > bench.sequence_length:
                continue
            for asked_for in (question, _ending(question, end)):
                room = one.objective.score_length(asked_for)
                if room > bench.sequence_length:
                    continue
                row = one.answer(one.draws(1)[-1], asked_for)
                place = f"{one}, with {before}, {target} and {after} tokens"
                if len(row) > room:
                    problem = f"{place}: the row has {len(row)} positions, and score_length says {room}"
                    raise Broken(problem, "score_length: signs and queries take positions too")
                check_arrays(bench, row, place)
                check_attention(row, one.objective.attention, place)


def _ending(question: Question, end: np.ndarray) -> Question:
    """The same where the document ends with it."""
    if question.kind in ("infill", "cloze"):
        return replace(question, after=np.append(question.after, end))
    return replace(question, target=np.append(question.target, end))


@check(quick=True)
def answers_are_complete(bench: Bench) -> None:
    """Every token that is asked for counts once, or does on average over the draws; beside them only signs count."""
    special, passes = set(bench.tokenizer.special_ids), 16 if bench.quick else 48
    for one in asked(bench, bench.subject):
        asked_for = len(one.question.target)
        counted = np.zeros((len(one.draws(passes)), asked_for))
        for number, draw in enumerate(one.draws(passes)):
            row = one.answer(draw)
            owner, weights = owners(row, one.question), weights_of(row)
            strange = set(row.targets[row.targets >= 0].tolist()) - set(one.question.target.tolist()) - special
            if strange:
                name = bench.tokenizer.id_to_token(min(strange))
                raise Broken(f"{one}: the row predicts '{name}', which is not asked for", "the targets of score")
            np.add.at(counted[number], owner[owner >= 0], weights[owner >= 0])
        for index in range(asked_for):
            mean, error = _mean(one, counted[:, index])
            if abs(mean - 1) > 5 * error + 1e-6:
                problem = f"{one}: token {index} of them counts {mean:.3f} times, with a standard error of {error:.3f}"
                hint = "the weights of score, and which tokens are targets: the weight is 1 over the probability"
                raise Broken(problem, hint)


def _mean(one: Asked, values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over draws; those of a pass share out its strata."""
    if not one.way.drawn:
        return float(values.mean()), 0.0
    passes = values.reshape(-1, len(one.draws(1))).mean(1)
    return float(passes.mean()), float(passes.std(ddof=1) / np.sqrt(len(passes)))


@check(quick=True)
def no_answer_is_seen(bench: Bench) -> None:
    """No token is predicted knowing it, and of two that are asked for only one knowing the other."""
    for subject in bench.subjects:
        for one in asked(bench, subject):
            _check_chain(one, _knowledge(bench, one))


def _knowledge(bench: Bench, one: Asked) -> np.ndarray:
    """[E * K, N, N] how much each token counts where it is predicted knowing another."""
    draws, target = one.draws(3 if bench.quick else 6), one.question.target
    bases = [one.answer(draw) for draw in draws for _ in target]
    variants, owned = [], []
    for number, base in enumerate(bases):
        index = number % len(target)
        changed = target.copy()
        changed[index] = another(bench, target[index])
        variant = one.answer(draws[number // len(target)], replace(one.question, target=changed))
        same_form(one, base, variant, "another token asked for")
        variants.append(variant)
        owned.append(owners(base, one.question))
    knows = np.zeros((len(bases), len(target)))
    for line, (base, owner, moving) in enumerate(
        zip(bases, owned, moved(bench, one, bases, variants, NOISE), strict=True)
    ):
        informed = moving & (owner >= 0)
        np.add.at(knows[line], owner[informed], weights_of(base)[informed])
    return knows.reshape(len(draws), len(target), len(target)).swapaxes(1, 2)


def _check_chain(one: Asked, knows: np.ndarray) -> None:
    seen = np.argwhere(np.diagonal(knows, axis1=1, axis2=2) > 0)
    if len(seen):
        problem = f"{one}: what predicts token {seen[0][1]} of them changes when that token changes"
        hint = "the row of score: a target that is read at its own position, or a shift by 0"
        raise Broken(f"{problem} ({one.subject.label})", hint)
    if one.way.likelihood not in ("exact", "bound"):
        return
    both = knows + knows.swapaxes(1, 2)
    hint = "score: tokens that are predicted knowing all others have no joint likelihood; or the way is pseudo"
    first, second = np.triu_indices(both.shape[1], k=1)
    for pair in zip(first.tolist(), second.tolist(), strict=True):
        mean, error = _mean(one, both[:, *pair])
        if mean > 1 + 5 * error + 1e-6:
            problem = f"{one}: tokens {pair[0]} and {pair[1]} of them are each predicted knowing the other"
            raise Broken(f"{problem}, {mean:.2f} times in all ({one.subject.label})", hint)
    if len(first):
        mean, error = _mean(one, both[:, first, second].mean(1))
        if mean > 1 + 5 * error + 1e-6:
            problem = f"{one}: on average {mean:.2f} of every two tokens are predicted knowing the other; 1 is possible"
            raise Broken(f"{problem} ({one.subject.label})", hint)


@check(quick=True)
def answers_use_what_is_given(bench: Bench) -> None:
    """An answer depends on the text to the left, to the right and on the length where it is said to, and only there."""
    for subject in bench.subjects:
        for one in asked(bench, subject):
            for side, changed in _sides(bench, one):
                _check_side(bench, one, side, changed)
            if "length" not in one.way.given and not one.way.drawn:
                _check_length(bench, one)


def _sides(bench: Bench, one: Asked) -> Iterator[tuple[str, Question]]:
    """The question with other text on a side."""
    if "left" in one.way.given:
        yield "left", replace(one.question, before=another(bench, one.question.before))
    if len(one.question.after):
        yield "right", replace(one.question, after=another(bench, one.question.after))


def _check_side(bench: Bench, one: Asked, side: str, changed: Question) -> None:
    draws, given = one.draws(2), side in one.way.given
    bases, variants = ([one.answer(draw, question) for draw in draws] for question in (one.question, changed))
    for base, variant in zip(bases, variants, strict=True):
        same_form(one, base, variant, f"other text to the {side}")
    depends = any(moving.any() for moving in moved(bench, one, bases, variants, NOISE))
    if depends and not given:
        problem = f"{one}: it is not given what stands to the {side}, and its predictions depend on it"
        raise Broken(f"{problem} ({one.subject.label})", "ways, which must tell all that score reads")
    if given and not depends:
        problem = f"{one}: it is given what stands to the {side}, and no prediction depends on it"
        raise Broken(f"{problem} ({one.subject.label})", "ways, or the order of the row: what is not read is not given")


def _check_length(bench: Bench, one: Asked) -> None:
    """Where more is asked for, the predictions of the first tokens stay what they are."""
    before, target, after = (len(part) for part in (one.question.before, one.question.target, one.question.after))
    longer = question_of(bench, one.kind, before, target + 2, after)
    if longer is None:
        return
    text = longer.tokens
    longer = replace(one.question, target=np.concatenate([one.question.target, text[-2:]]))
    if len(np.unique(longer.target)) < len(longer.target) or one.objective.score_length(longer) > bench.sequence_length:
        return
    draw = one.draws(1)[0]
    rows = [one.answer(draw), one.answer(draw, longer)]
    predicted = [states(bench, one, [row])[0] for row in rows]
    owner = [owners(row, longer) for row in rows]
    scale = float(np.sqrt(np.mean(np.square(predicted[0])))) or 1.0
    for index in range(target):
        here, there = (one_row[own == index] for one_row, own in zip(predicted, owner, strict=True))
        if here.shape != there.shape or (np.abs(here - there) / scale > _ROUNDING).any():
            problem = f"{one}: it is not given how many tokens are asked for, and what predicts token {index} of them "
            hint = "ways, which must tell that score gives the length away; or where the row is filled up"
            raise Broken(f"{problem}changes when more are ({one.subject.label})", hint)
