"""Measures of written text: how like the real one it is, and how varied.

None of them alone says how good a text is. A model that always writes the likeliest text scores well on likelihoods and
repeats itself (Holtzman et al. 2019, arXiv 1904.09751), and random words are as varied as can be.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ntp.config.errors import ConfigError
from ntp.evaluation.exams.result import Measure
from ntp.evaluation.extras import require

_WORD = re.compile(r"\w+|[^\w\s]")
REPEATED_NGRAM = 4


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, and each other character that is no space: the same for every
    tokenizer."""
    return _WORD.findall(text)


def ngrams(tokens: Sequence[str], order: int) -> list[tuple[str, ...]]:
    """All runs of ``order`` tokens, in their order."""
    return [tuple(tokens[index : index + order]) for index in range(len(tokens) - order + 1)]


def entropy(counts: Counter[str]) -> float:
    """Of the distribution that the counts are of, in bits; 0 for none."""
    total = sum(counts.values())
    return sum(count / total * math.log2(total / count) for count in counts.values())


def variety(samples: Sequence[Sequence[str]]) -> dict[str, Measure]:
    """How varied each sample is in itself; samples of no words count nothing.

    ``distinct_n`` is the share of different n-grams among the n-grams of a sample (Li et al. 2016, arXiv 1510.03055,
    section 5), over all samples; ``seq_rep_4`` the share of 4-grams of a sample that it has had before, as a mean over
    samples (Welleck et al. 2020, arXiv 1908.04319, equation 9); ``unigram_entropy`` that of the words of a sample, as a
    mean over samples.

    Args:
        samples: [Q][S], those of each question.
    """
    told = [[words(text) for text in one] for one in samples]
    measures = {}
    for order in (1, 2, 3):
        grams = [[ngrams(text, order) for text in one] for one in told]
        different = [float(sum(len(set(text)) for text in one)) for one in grams]
        all_of_them = [float(sum(map(len, one))) for one in grams]
        measures[f"distinct_{order}"] = _measure(different, all_of_them, better="higher")
    repeated = [[one for text in texts if (one := _repeated(text)) is not None] for texts in told]
    measures[f"seq_rep_{REPEATED_NGRAM}"] = _means(repeated, better="lower")
    entropies = [[entropy(Counter(text)) for text in one if text] for one in told]
    measures["unigram_entropy"] = _means(entropies, "bits per word", better=None)
    return measures


def _repeated(text: Sequence[str]) -> float | None:
    grams = ngrams(text, REPEATED_NGRAM)
    return 1 - len(set(grams)) / len(grams) if grams else None


def corpus_variety(texts: Sequence[str]) -> dict[str, float]:
    """``distinct_n`` and ``unigram_entropy`` of all texts as one; NaN where there is no n-gram."""
    told = [words(text) for text in texts]
    named = {}
    for order in (1, 2, 3):
        grams = [one for text in told for one in ngrams(text, order)]
        named[f"distinct_{order}"] = len(set(grams)) / len(grams) if grams else math.nan
    named["unigram_entropy"] = entropy(Counter(one for text in told for one in text))
    return named


def likeness(samples: Sequence[Sequence[str]], references: Sequence[str]) -> dict[str, Measure]:
    """How like the real text each sample is: means over samples of chrF, BLEU and ROUGE-L of a sentence.

    chrF (Popović 2015) and BLEU (with the effective order, tokenizer 13a) are sacrebleu's, of 100. ROUGE-L is the F
    measure of rouge-score, of 1; it reads nothing but ASCII letters and digits, in lower case.

    Args:
        samples: [Q][S], those of each question.
        references: [Q].

    Raises:
        ConfigError: the packages are not installed.
    """
    chrf, bleu, rouge = _sacrebleu().CHRF(), _sacrebleu().BLEU(effective_order=True), _rouge()
    pairs = list(zip(samples, references, strict=True))
    return {
        "chrf": _means([[chrf.sentence_score(text, [real]).score for text in one] for one, real in pairs], "of 100"),
        "bleu": _means([[bleu.sentence_score(text, [real]).score for text in one] for one, real in pairs], "of 100"),
        "rouge_l": _means([[rouge.score(real, text)["rougeL"].fmeasure for text in one] for one, real in pairs]),
    }


def corpus_likeness(samples: Sequence[Sequence[str]], references: Sequence[str]) -> dict[str, Any]:
    """BLEU and chrF of all samples as one corpus, which are no means over sentences, with sacrebleu's signatures.

    Args:
        samples: [Q][S], equally many of each question.
        references: [Q].
    """
    texts = [text for one in samples for text in one]
    real = [text for one, text in zip(samples, references, strict=True) for _ in one]
    named: dict[str, Any] = {}
    for name, metric in (("chrf", _sacrebleu().CHRF()), ("bleu", _sacrebleu().BLEU())):
        named[name] = metric.corpus_score(texts, [real]).score
        named[f"{name}_signature"] = str(metric.get_signature())
    return named


def agreement(samples: Sequence[Sequence[str]], references: Sequence[str]) -> dict[str, Measure]:
    """Whether each sample is the real text, and how few characters would have to change.

    ``edit_similarity`` is 1 minus Levenshtein's distance over the length of the longer of the two, in characters.
    """
    from torchmetrics.functional.text import edit_distance

    similar: list[list[float]] = []
    for one, real in zip(samples, references, strict=True):
        longest = np.array([max(len(text), len(real), 1) for text in one])
        distance = np.asarray(edit_distance(list(one), [real] * len(one), reduction="none"), dtype=float)
        similar.append((1 - distance / longest).tolist())
    exact = [[float(text == real) for text in one] for one, real in zip(samples, references, strict=True)]
    return {"edit_similarity": _means(similar), "exact_match": _means(exact)}


def bert_score(
    samples: Sequence[Sequence[str]], references: Sequence[str], model: str, device: str, key: str
) -> Measure:
    """BERTScore's F measure (Zhang et al. 2020, arXiv 1904.09675) by the last layer, not rescaled.

    Args:
        samples: [Q][S]; empty ones have a score of 0.
        references: [Q].
        model: directory of an encoder and its tokenizer in Hugging Face's format.
        device: where it runs.
        key: of the config, for messages.

    Raises:
        ConfigError: there is no such directory, or it holds no such model.
    """
    check_bert_score(model, key)
    from torchmetrics.functional.text.bert import bert_score as scored

    pairs = [
        (number, text, real)
        for number, (one, real) in enumerate(zip(samples, references, strict=True))
        for text in one
        if text.strip()
    ]
    values: list[list[float]] = [[0.0] * sum(not text.strip() for text in one) for one in samples]
    if pairs:
        try:
            found: Any = scored(
                [text for _, text, _ in pairs],
                [real for _, _, real in pairs],
                model_name_or_path=model,
                device=device,
                truncation=True,
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ConfigError(key, f"{model} holds no model for BERTScore: {_line(error)}") from error
        for (number, _, _), value in zip(pairs, np.atleast_1d(np.asarray(found["f1"])).tolist(), strict=True):
            values[number].append(value)
    return _means(values)


def check_bert_score(model: str, key: str) -> None:
    """Whether there may be a model.

    Raises:
        ConfigError: there is no such directory, or transformers is not installed.
    """
    if not (Path(model).expanduser() / "config.json").is_file():
        raise ConfigError(key, f"'{model}' is no directory with a model (config.json) in it")
    require("transformers", package="transformers", extra="benchmarks", key=key)


def check_installed() -> None:
    """Whether the packages of `likeness` are there.

    Raises:
        ConfigError: they are not.
    """
    _sacrebleu(), _rouge()


def _sacrebleu() -> Any:
    return _extra("sacrebleu", "sacrebleu")


def _rouge() -> Any:
    return _extra("rouge_score.rouge_scorer", "rouge-score").RougeScorer(["rougeL"])


def _extra(module: str, package: str) -> Any:
    return require(module, package=package, extra="exams", key="evaluation.exams")


def _means(values: Sequence[Sequence[float]], unit: str = "", better: Any = "higher") -> Measure:
    """The mean over all values of all questions."""
    return _measure([math.fsum(one) for one in values], [float(len(one)) for one in values], unit, better)


def _measure(sums: Sequence[float], weights: Sequence[float], unit: str = "", better: Any = "higher") -> Measure:
    return Measure(np.asarray(sums, float), np.asarray(weights, float), None, unit, better)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
