"""Questions in tokens, the same for everybody who reads the same tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ntp.data.tokenizers import Tokenizer
from ntp.evaluation.examinee import TextQuestion
from ntp.objectives.question import Question


def encode(question: TextQuestion, tokenizer: Tokenizer, *, begins: bool) -> Question:
    """A question in tokens. Texts are encoded by themselves: no token reaches across a cut.

    Args:
        question: in text.
        tokenizer: of whoever is asked.
        begins: whether the end-of-text token stands before every document that begins, as in a text of documents one
            after the other. Otherwise only where nothing else stands before what is asked for.
    """
    end = np.array([tokenizer.end_of_text])
    before, target, after = (
        ids for ids, _ in tokenizer.encode_batch([question.before, question.target, question.after])
    )
    if not len(before) or (question.starts and begins):
        before = np.concatenate([end, before])
    if question.ends:
        gap = question.kind in ("infill", "cloze")
        target, after = (target, np.concatenate([after, end])) if gap else (np.concatenate([target, end]), after)
    return Question(question.kind, before, target, after)


def altered(questions: Sequence[TextQuestion], tokenizer: Tokenizer) -> np.ndarray | None:
    """[Q] bool, whether the tokens of a target are not all of its text; None where the tokenizer keeps every text."""
    if tokenizer.lossless:
        return None
    targets = [one.target for one in questions]
    read = [ids for ids, _ in tokenizer.encode_batch(targets)]
    changed = [
        tokenizer.unknown in ids or tokenizer.decode(ids) != text for ids, text in zip(read, targets, strict=True)
    ]
    return np.array(changed, dtype=bool)
