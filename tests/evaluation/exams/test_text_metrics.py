"""Measures of text against numbers worked out by hand, and what must hold of any text."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.evaluation.exams import text_metrics
from ntp.evaluation.exams.generation import Continuations
from ntp.evaluation.exams.text_metrics import agreement, corpus_likeness, corpus_variety, likeness, variety, words

TEXTS = st.lists(st.lists(st.text(alphabet="ab c.", max_size=12), min_size=1, max_size=3), min_size=1, max_size=4)


def test_words_are_names_numbers_and_single_signs() -> None:
    assert words("x_1 += f(naïve)\n") == ["x_1", "+", "=", "f", "(", "naïve", ")"]


def test_variety_of_a_text_that_repeats_itself() -> None:
    measures = variety([["a b a b a b"]])

    assert measures["distinct_1"].value == pytest.approx(2 / 6)
    assert measures["distinct_2"].value == pytest.approx(2 / 5)
    assert measures["distinct_3"].value == pytest.approx(2 / 4)
    assert measures["seq_rep_4"].value == pytest.approx(1 - 2 / 3)
    assert measures["unigram_entropy"].value == pytest.approx(1.0)


def test_repetition_is_a_mean_over_samples_and_distinctness_one_over_their_ngrams() -> None:
    measures = variety([["a a a a a", "a b c d"], ["a b"], []])

    assert measures["seq_rep_4"].value == pytest.approx((1 / 2 + 0) / 2)  # the third has no four words
    assert measures["seq_rep_4"].weights.tolist() == [2, 0, 0]
    assert measures["distinct_1"].value == pytest.approx((1 + 4 + 2) / (5 + 4 + 2))
    assert measures["unigram_entropy"].value == pytest.approx((0 + 2 + 1) / 3)


def test_a_corpus_of_equal_texts_is_not_varied_though_each_of_them_is() -> None:
    texts = ["one two three"] * 10

    assert variety([[text] for text in texts])["distinct_1"].value == 1
    assert corpus_variety(texts)["distinct_1"] == pytest.approx(3 / 30)
    assert corpus_variety(texts)["unigram_entropy"] == pytest.approx(math.log2(3))
    assert math.isnan(corpus_variety([""])["distinct_1"])


@given(TEXTS)
@settings(max_examples=50)
def test_shares_are_shares(samples: list[list[str]]) -> None:
    for name, measure in variety(samples).items():
        if name != "unigram_entropy" and measure.weights.sum():
            assert 0 <= measure.value <= 1


def test_the_real_text_is_most_like_itself() -> None:
    text = "the cat sat on the mat\n"
    measures = likeness([[text], ["dogs"]], [text, text])

    assert list(measures) == ["chrf", "bleu", "rouge_l"]
    for name, most in (("chrf", 100), ("bleu", 100), ("rouge_l", 1)):
        same, other = measures[name].sums
        assert same == pytest.approx(most)
        assert other < 0.2 * most


def test_rouge_l_is_the_longest_common_subsequence() -> None:
    measure = likeness([["the cat sat"]], ["the cat"])["rouge_l"]

    assert measure.value == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))


def test_scores_of_a_corpus_are_sacrebleus_own() -> None:
    import sacrebleu

    samples, references = [["a b c d e", "a b c d f"], ["g h i j k"]], ["a b c d e", "g h i j l"]
    texts, real = ["a b c d e", "a b c d f", "g h i j k"], ["a b c d e", "a b c d e", "g h i j l"]
    found = corpus_likeness(samples, references)

    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [real]).score)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(texts, [real]).score)
    assert found["bleu"] != pytest.approx(likeness(samples, references)["bleu"].value)
    assert "tok:13a" in found["bleu_signature"]


def test_edit_similarity_is_levenshteins() -> None:
    measures = agreement([["kitten", "sitting"], [""], []], ["sitting", "", "x"])

    assert measures["edit_similarity"].sums.tolist() == pytest.approx([1 - 3 / 7 + 1, 1, 0])
    assert measures["exact_match"].sums.tolist() == [1, 1, 0]
    assert measures["exact_match"].weights.tolist() == [2, 1, 0]


@given(st.text(alphabet="abc", max_size=8), st.text(alphabet="abc", max_size=8))
@settings(max_examples=60)
def test_edit_similarity_agrees_with_the_recurrence(left: str, right: str) -> None:
    row = list(range(len(right) + 1))
    for i, one in enumerate(left, start=1):
        above, row[0] = row[0], i
        for j, other in enumerate(right, start=1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    similar = agreement([[left]], [right])["edit_similarity"]

    assert similar.value == pytest.approx(1 - row[-1] / max(len(left), len(right), 1))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    path = tmp_path_factory.mktemp("encoder")
    vocabulary = path / "words.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "one", "two", "three", "four"]))
    BertTokenizerFast(str(vocabulary)).save_pretrained(path)
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=9, max_position_embeddings=32, **shape)).save_pretrained(path)
    return path


def test_bert_score_of_the_real_text_is_one_and_that_of_nothing_is_zero(encoder: Path) -> None:
    same = text_metrics.bert_score([["one two three"], [""]], ["one two three", "four"], str(encoder), "cpu", "key")
    other = text_metrics.bert_score([["four four"]], ["one two three"], str(encoder), "cpu", "key")

    assert same.sums.tolist() == pytest.approx([1, 0], abs=1e-4)
    assert same.weights.tolist() == [1, 1]
    assert other.value < 0.999


def test_bert_score_without_a_model_says_where_none_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^key: .* is no directory with a model"):
        text_metrics.check_bert_score(str(tmp_path / "none"), "key")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"^key: .* holds no model for BERTScore") as error:
        text_metrics.bert_score([["a"]], ["b"], str(tmp_path), "cpu", "key")
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)

    with pytest.raises(ConfigError, match=r'sacrebleu is not installed; pip install "ntp\[exams\]"'):
        Continuations()
