import pickle
from itertools import combinations_with_replacement, pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ntp.config.errors import ConfigError
from ntp.data.collate import collate
from ntp.data.example import IGNORE
from ntp.data.special_tokens import FIM_MIDDLE, FIM_PREFIX, FIM_SUFFIX
from ntp.data.windows import Windows
from ntp.objectives.causal import Causal
from ntp.objectives.fim import FillInTheMiddle
from tests.objectives.texts import (
    ANY_TEXT,
    BYTES,
    DOCUMENTS,
    LETTERS,
    PROSE,
    SUBWORDS,
    TOKENIZERS,
    Store,
    bound,
    distance,
    draw,
    off,
    row_of,
    rows,
)

END = BYTES.end_of_text
PRE, SUF, MID = (BYTES.special_tokens[one] for one in (FIM_PREFIX, FIM_SUFFIX, FIM_MIDDLE))
A, B, C, D, E, F_ = BYTES.encode("abcdef").tolist()
REGIMES = st.sampled_from(["concatenate", "isolate"])
LOSSLESS = st.sampled_from(["bytes", "subwords"])


def fim(rate=1.0, spm_rate=0.0, level="context", unit="auto", length=64, tokenizer=BYTES):
    return bound(FillInTheMiddle(rate, spm_rate, level, unit), length, tokenizer)


def sequence(example):
    """What is read and the last target: the row before it was shifted."""
    last = example.targets[-1:]
    return np.concatenate([example.tokens, last[last != IGNORE]])


def parts(objective, row, draws):
    """Lengths of prefix, middle and suffix of a row that is one document in the form psm."""
    lengths = []
    for number in range(draws):
        moved = sequence(objective.corrupt(row, draw(number))).tolist()
        assert moved[0] == PRE
        assert moved[-1] == END
        suf, mid = moved.index(SUF), moved.index(MID)
        lengths.append((suf - 1, len(moved) - mid - 2, mid - suf - 1))
    return np.array(lengths)


# -- the forms --


@pytest.mark.parametrize(
    ("spm_rate", "expected"),
    [(0, [PRE, A, B, SUF, E, F_, MID, C, D, END]), (1, [PRE, SUF, E, F_, MID, A, B, C, D, END])],
    ids=["psm", "spm"],
)
def test_six_tokens_cut_at_two_and_four_have_the_orders_of_the_definition(monkeypatch, spm_rate, expected):
    objective = fim(spm_rate=spm_rate, unit="token")
    monkeypatch.setattr(objective, "_cut", lambda body, rng: [[slice(2)], [slice(2, 4)], [slice(4, None)]])
    example = objective.corrupt(row_of([A, B, C, D, E, F_, END]), draw())
    assert example.tokens.tolist() == expected[:-1]
    assert example.targets.tolist() == expected[1:]
    assert example.target_bytes.tolist() == [int(one not in (PRE, SUF, MID, END)) for one in expected[1:]]
    assert objective.restore(example).tolist() == [A, B, C, D, E, F_, END]


def test_every_position_is_trained_also_on_signs_and_ends():
    example = fim(rate=0.5, spm_rate=0.5).corrupt(row_of([A, END, B, C, END, D, E]), draw())
    assert (example.targets != IGNORE).all()


@pytest.mark.parametrize("documents", ["concatenate", "isolate"])
@pytest.mark.parametrize("level", ["context", "document"])
@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
def test_with_a_rate_of_zero_it_is_causal_prediction(documents, level, tokenizer):
    objective = fim(rate=0, level=level, tokenizer=tokenizer)
    for number, row in enumerate(rows(PROSE[:20], objective, documents, tokenizer)):
        ours, causal = objective.corrupt(row, draw(number)), Causal().corrupt(row, draw(number))
        for name in ("tokens", "targets", "segments", "target_bytes"):
            assert getattr(ours, name).tolist() == getattr(causal, name).tolist()


# -- the draws --


@pytest.mark.parametrize("unit", ["token", "character"])
def test_cuts_are_two_independent_uniform_draws_in_order(unit):
    n = 6
    lengths = parts(fim(unit=unit), row_of([A] * n + [END]), 6000)
    drawn = [(prefix, prefix + middle) for prefix, middle, _ in lengths.tolist()]
    every = {pair: (1 + (pair[0] < pair[1])) / (n + 1) ** 2 for pair in combinations_with_replacement(range(n + 1), 2)}
    assert distance(drawn, every) < 5


def test_parts_have_the_lengths_that_are_expected_and_not_those_of_a_second_cut_behind_the_first():
    n = 12
    prefix, middle, suffix = parts(fim(), row_of([A] * n + [END]), 4000).T
    assert off(middle, n * (n + 2) / (3 * (n + 1))) < 5
    assert off(prefix, n * (2 * n + 1) / (6 * (n + 1))) < 5
    assert off(suffix, n * (2 * n + 1) / (6 * (n + 1))) < 5
    assert off(prefix == 0, (2 * n + 1) / (n + 1) ** 2) < 5
    # The first cut uniform and the second uniform between it and the end is a common mistake.
    assert off(middle, n / 4) > 15


def test_what_is_moved_and_in_which_form_are_independent():
    objective, row, n = fim(rate=0.6, spm_rate=0.3), row_of([A] * 30 + [END]), 30
    made = [sequence(objective.corrupt(row, draw(number))).tolist() for number in range(4000)]
    moved = np.array([one[0] == PRE for one in made])
    looks_spm = np.array([one[1] == SUF for one in made if one[0] == PRE])
    assert off(moved, 0.6) < 5
    # A psm whose prefix is empty looks the same.
    assert off(looks_spm, 0.3 + 0.7 * (2 * n + 1) / (n + 1) ** 2) < 5


def test_pieces_of_a_row_are_moved_apart():
    objective, row = fim(rate=0.5), row_of([A, END, B, END])
    made = [sequence(objective.corrupt(row, draw(number))).tolist() for number in range(400)]
    pairs = [(one[0] == PRE, one[one.index(END) + 1] == PRE) for one in made]
    assert distance(pairs, dict.fromkeys([(False, False), (False, True), (True, False), (True, True)], 0.25)) < 5


def test_other_rows_and_epochs_have_other_cuts_and_the_same_draw_the_same():
    objective, row = fim(), row_of([A] * 40 + [END])
    made = [sequence(objective.corrupt(row, one)).tolist() for one in (draw(0), draw(1), draw(0, epoch=1), draw(0))]
    assert made[0] == made[3]
    assert len({tuple(one) for one in made}) == 3


# -- pieces of a row --


def test_the_last_piece_behind_the_final_end_is_moved_too():
    moved = sequence(fim().corrupt(row_of([A, B, END, C, D]), draw())).tolist()
    assert moved.count(PRE) == 2
    assert moved[moved.index(END) + 1] == PRE
    assert moved[-1] != END


def test_nothing_moves_across_an_end():
    made = sequence(fim().corrupt(row_of([A] * 5 + [END] + [B] * 5 + [END] + [C] * 5), draw()))
    pieces = np.split(made, np.flatnonzero(made == END) + 1)
    for piece, token in zip(pieces, (A, B, C), strict=True):
        assert np.count_nonzero(piece == token) == 5
        assert set(piece.tolist()) <= {PRE, SUF, MID, END, token}


@pytest.mark.parametrize("unit", ["character", "token"])
def test_empty_documents_keep_their_ends_and_nothing_else(unit):
    made = sequence(fim(unit=unit).corrupt(row_of([END, END, A, END, END]), draw())).tolist()
    assert made[:3] == [END, END, PRE]
    assert made.count(PRE) == made.count(SUF) == made.count(MID) == 1
    assert made.count(END) == 4
    assert made[-2:] == [END, END]


def test_where_the_row_is_too_long_its_end_is_cut():
    example = fim(length=10, unit="token").corrupt(row_of([A] * 11), draw())
    assert len(example) == 10
    assert example.read_bytes == BYTES.token_bytes[example.tokens].sum()


def test_isolated_documents_do_not_predict_each_other():
    row = row_of([A, B, END, C, D, END, E], segments=[0, 0, 0, 1, 1, 1, 2])
    example = fim().corrupt(row, draw())
    ends = np.flatnonzero(example.tokens == END)
    assert (example.targets[ends] == IGNORE).all()
    assert (example.targets != IGNORE).sum() == len(example) - len(ends)
    assert example.segments.tolist() == np.repeat([0, 1, 2], [6, 6, len(example) - 12]).tolist()


@pytest.mark.parametrize("level", ["context", "document"])
def test_tiny_rows_make_tiny_examples(level):
    objective = fim(rate=0, level=level)
    row = rows(["a"], objective)[0]
    assert len(row) == 2
    assert len(objective.corrupt(row.part(0, 2), draw())) == 1
    assert len(objective.corrupt(row.part(0, 1), draw())) == 0


@settings(deadline=None, max_examples=100)
@given(
    texts=DOCUMENTS,
    documents=REGIMES,
    level=st.sampled_from(["context", "document"]),
    unit=st.sampled_from(["auto", "token"]),
    kind=st.sampled_from(sorted(TOKENIZERS)),
    rate=st.sampled_from([0.5, 1.0]),
)
def test_no_example_is_too_long_and_its_bytes_are_those_of_its_text(texts, documents, level, unit, kind, rate):
    tokenizer = TOKENIZERS[kind]
    objective = fim(rate, 0.5, level, unit, 16, tokenizer)
    for number, row in enumerate(rows(texts, objective, documents, tokenizer, length=16)):
        example = objective.corrupt(row, draw(number))
        assert len(example) <= 16
        assert len(example.targets) == len(example.segments) == len(example.target_bytes) == len(example)
        if tokenizer.lossless:
            trained = example.targets != IGNORE
            assert example.target_bytes[trained].tolist() == tokenizer.token_bytes[example.targets[trained]].tolist()
            assert example.read_bytes == tokenizer.token_bytes[example.tokens].sum()
        assert example.target_bytes[example.targets == IGNORE].sum() == 0


def test_bytes_of_characters_that_the_tokenizer_does_not_know_are_kept():
    texts = ["The shµp 🚀 left"]
    for level in ("context", "document"):
        objective = fim(level=level, tokenizer=LETTERS)
        row = rows(texts, objective, tokenizer=LETTERS)[0]
        example = objective.corrupt(row, draw())
        # The first token, the sign, is nobody's target and has none.
        assert example.target_bytes.sum() == len(texts[0].encode())


# -- characters --


@settings(deadline=None, max_examples=100)
@given(
    texts=DOCUMENTS,
    documents=REGIMES,
    spm_rate=st.sampled_from([0.0, 0.5, 1.0]),
    kind=st.sampled_from(["bytes", "subwords"]),
)
def test_the_text_of_whole_documents_is_restored_to_the_byte(texts, documents, spm_rate, kind):
    tokenizer = TOKENIZERS[kind]
    objective = fim(1.0, spm_rate, length=1000, tokenizer=tokenizer)
    for number, row in enumerate(rows(texts, objective, documents, tokenizer, length=1000)):
        example = objective.corrupt(row, draw(number))
        restored = tokenizer.decode(objective.restore(example), skip_special=False)
        end = tokenizer.id_to_token(tokenizer.end_of_text)
        expected = end.join([*texts, ""])
        if documents == "isolate" and texts[-1] == "":
            # Nothing predicts an isolated document of which the row holds only the first token.
            expected = expected.removesuffix(end)
        assert restored == expected
        assert example.target_bytes.sum() == len("".join(texts).encode())


@settings(deadline=None, max_examples=100)
@given(texts=DOCUMENTS, documents=REGIMES, kind=LOSSLESS)
def test_a_row_is_restored_from_its_beginning_as_far_as_it_is_whole(texts, documents, kind):
    tokenizer = TOKENIZERS[kind]
    objective = fim(0.7, 0.5, length=16, tokenizer=tokenizer)
    for number, row in enumerate(rows(texts, objective, documents, tokenizer, length=16)):
        restored = objective.restore(objective.corrupt(row, draw(number)))
        ours, original = (
            b"".join(tokenizer.token_texts[one] or b"\0" for one in tokens.tolist())
            for tokens in (restored, row.tokens)
        )
        # What a row holds of a character that is cut by its beginning is lost where the first piece is moved.
        lost = next((index for index, byte in enumerate(original) if byte & 0xC0 != 0x80), len(original))
        assert original.startswith(ours) or original[lost:].startswith(ours)


@settings(deadline=None, max_examples=100)
@given(text=ANY_TEXT.filter(len), number=st.integers(0, 1000))
def test_no_part_begins_or_ends_inside_a_character(text, number):
    objective = fim(length=1000, tokenizer=SUBWORDS)
    row = rows([text], objective, tokenizer=SUBWORDS, length=1000)[0]
    made = sequence(objective.corrupt(row, draw(number)))
    signs = np.isin(made, list(SUBWORDS.special_ids))
    for part in np.split(made, np.flatnonzero(signs)):
        b"".join(SUBWORDS.token_texts[one] for one in part.tolist()).decode()


def test_a_cut_may_split_a_token():
    (word,) = SUBWORDS.encode(" left")
    objective = fim(tokenizer=SUBWORDS)
    row = row_of([word, SUBWORDS.end_of_text], tokenizer=SUBWORDS)
    made = [sequence(objective.corrupt(row, draw(number))).tolist() for number in range(50)]
    assert any(word not in one for one in made)
    whole = fim(tokenizer=SUBWORDS, unit="token")
    assert all(word in sequence(whole.corrupt(row, draw(number))).tolist() for number in range(50))


def test_each_part_is_encoded_by_itself():
    objective = fim(length=1000, tokenizer=SUBWORDS)
    row = rows([PROSE[5]], objective, tokenizer=SUBWORDS, length=1000)[0]
    for number in range(20):
        made = sequence(objective.corrupt(row, draw(number)))
        for part in np.split(made, np.flatnonzero(np.isin(made, list(SUBWORDS.special_ids)))):
            own = part[~np.isin(part, list(SUBWORDS.special_ids))]
            assert own.tolist() == SUBWORDS.encode(SUBWORDS.decode(own)).tolist()


def test_what_a_row_holds_of_a_cut_character_is_dropped_where_its_piece_is_moved():
    tokens = BYTES.encode("🙂ab🙂")[2:-1]
    example = fim(length=64).corrupt(row_of(tokens), draw())
    text = sequence(example)
    assert sorted(text.tolist()) == sorted([PRE, SUF, MID, A, B])
    assert example.read_bytes + example.target_bytes[-1] == 2


def test_a_piece_without_a_whole_character_stays_as_it_is():
    tokens = [*BYTES.encode("🙂").tolist()[1:], END, *BYTES.encode("日").tolist()[:2]]
    assert sequence(fim().corrupt(row_of(tokens), draw())).tolist() == tokens


# -- whole documents --


def stream(objective, texts, length, tokenizer=BYTES, documents="concatenate", epoch=0):
    """All that the rows of an epoch read, put together, and the last target."""
    given = rows(texts, objective, documents, tokenizer, length)
    examples = [objective.corrupt(row, draw(number, epoch)) for number, row in enumerate(given)]
    return examples, np.concatenate([*(one.tokens for one in examples), sequence(examples[-1])[len(examples[-1]) :]])


@pytest.mark.parametrize("unit", ["character", "token"])
@pytest.mark.parametrize("tokenizer", [BYTES, SUBWORDS], ids=["bytes", "subwords"])
@pytest.mark.parametrize("window", [5, 64])
def test_rows_of_an_epoch_hold_parts_of_the_same_moved_documents(tokenizer, unit, window):
    texts = ["".join(PROSE[:8]), "", "short", "".join(PROSE[20:30])]
    # Rows with room to spare, so that nothing is cut.
    objective = fim(0.7, 0.5, "document", unit, length=window + 40, tokenizer=tokenizer)
    for epoch in range(3):
        examples, read = stream(objective, texts, window, tokenizer, epoch=epoch)
        for one, following in pairwise(examples):
            assert one.targets[-1] == following.tokens[0]
        moved = np.split(read, np.flatnonzero(read == tokenizer.end_of_text) + 1)
        assert len(moved) == len(texts) + 1
        for piece, text in zip(moved, texts, strict=False):
            restored = tokenizer.decode(objective._put_back(piece))
            assert restored == text


def test_documents_are_cut_anew_in_every_epoch():
    objective = fim(1.0, 0.0, "document", length=80)
    made = {tuple(stream(objective, PROSE[:3], 64, epoch=epoch)[1].tolist()) for epoch in range(5)}
    assert len(made) == 5


def test_the_parts_of_a_long_document_land_in_different_rows():
    objective = fim(1.0, 0.0, "document", length=80)
    examples, _ = stream(objective, ["".join(PROSE[:20])], 64)
    places = [[number for number, one in enumerate(examples) if sign in one.tokens] for sign in (PRE, SUF, MID)]
    assert [len(one) for one in places] == [1, 1, 1]
    assert len({number for (number,) in places}) > 1


def test_isolated_documents_that_are_moved_as_a_whole_keep_their_segments():
    objective = fim(1.0, 0.0, "document", length=80)
    for number, row in enumerate(rows(PROSE[:6], objective, "isolate", length=64)):
        example = objective.corrupt(row, draw(number))
        assert (np.diff(example.segments) == (example.tokens[:-1] == END)).all()
        assert (example.targets[example.tokens == END] == IGNORE).all()


def test_a_row_that_goes_around_the_end_of_the_text_has_its_documents():
    store = Store(PROSE[:4], BYTES)
    objective = fim(1.0, 0.0, "document", length=80)
    windows = Windows(store, 64, 1, "isolate", wrap=True)
    row = windows.row(0, offset=windows.total - 30)
    example = objective.corrupt(row, draw())
    last, first = (np.flatnonzero(example.segments == one) for one in (0, 1))
    assert example.tokens[first[0]] == PRE
    assert example.tokens[last[-1]] == END


def test_a_row_that_does_not_know_its_documents_is_refused():
    with pytest.raises(ValueError, match="use level=context"):
        fim(level="document").corrupt(row_of([A, B]), draw())


# -- what it asks of the run, and how it is asked --


def test_auto_cuts_characters_where_the_tokenizer_gives_every_text_back():
    assert fim(tokenizer=SUBWORDS).cuts is not None
    assert "unit=character" in repr(fim(tokenizer=SUBWORDS))
    assert fim(tokenizer=LETTERS).cuts is None
    assert fim(unit="token", tokenizer=SUBWORDS).cuts is None


def test_characters_of_a_tokenizer_that_loses_some_cannot_be_cut():
    with pytest.raises(ConfigError, match=r"objective\.unit: .* use token"):
        fim(unit="character", tokenizer=LETTERS)


def test_it_can_be_sent_to_another_process():
    objective, row = fim(tokenizer=SUBWORDS), row_of(SUBWORDS.encode(PROSE[0])[:50], tokenizer=SUBWORDS)
    other = pickle.loads(pickle.dumps(objective))
    assert other.corrupt(row, draw()).tokens.tolist() == objective.corrupt(row, draw()).tokens.tolist()


@pytest.mark.parametrize(
    ("form", "prompt"),
    [
        (None, [END, PRE, A, B, SUF, E, F_, MID]),
        ("psm", [END, PRE, A, B, SUF, E, F_, MID]),
        ("spm", [END, PRE, SUF, E, F_, MID, A, B]),
    ],
)
def test_it_is_asked_as_it_was_trained(form, prompt):
    query = fim(spm_rate=0.5).query(np.array([END, A, B]), np.array([E, F_]), 8, form)
    assert query.prompt.tolist() == prompt
    assert query.attention == "causal"


def test_a_text_is_continued_as_it_is():
    assert fim().query(np.array([END, A, B]), None, 8).prompt.tolist() == [END, A, B]


@pytest.mark.parametrize(("spm_rate", "forms"), [(0, ("psm",)), (1, ("spm",)), (0.5, ("psm", "spm"))])
def test_it_knows_the_forms_that_it_was_trained_on(spm_rate, forms):
    objective = fim(spm_rate=spm_rate)
    assert objective.forms == forms
    expected = [PRE, SUF, B, MID, A] if spm_rate == 1 else [PRE, A, SUF, B, MID]
    assert objective.query(np.array([A]), np.array([B]), 8).prompt.tolist() == expected


def test_without_moved_documents_it_cannot_infill():
    assert FillInTheMiddle(rate=0).inference == {"continue"}
    assert FillInTheMiddle(rate=0.1).inference == {"continue", "infill"}


def test_only_without_moved_documents_its_likelihood_is_exact():
    assert FillInTheMiddle(rate=0).likelihood == "exact"
    assert FillInTheMiddle(rate=0.1).likelihood == "bound"


@pytest.mark.parametrize("unit", ["character", "token"])
def test_it_promises_how_much_is_moved(unit):
    objective = fim(0.6, 0.5, unit=unit)
    row = row_of([A] * 20 + [END] + BYTES.encode("é🙂" * 3).tolist() + [END, END] + [B] * 50)
    promises = [objective.promises(row, objective.corrupt(row, draw(number))) for number in range(1000)]
    for name in ("moved", "suffix"):
        observed, expected = np.array([one[name] for one in promises]).T
        assert expected.mean() > 1
        assert off(observed - expected, 0) < 5


# -- against another implementation of the loss --


class Wrapped:
    """A GPT-2 of transformers, asked as objectives ask a model."""

    def __init__(self, model):
        self.model = model

    def __call__(self, tokens, **rule):
        return self.model.transformer(tokens).last_hidden_state

    def token_nll(self, hidden, targets, *, excluded=None):
        return F.cross_entropy(self.model.lm_head(hidden), targets, reduction="none")


@pytest.mark.parametrize("objective", [Causal(), FillInTheMiddle(1.0, 0.5), FillInTheMiddle(0.5, 0.5, unit="token")])
def test_gpt2_of_transformers_has_the_same_loss(objective):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=BYTES.vocabulary_size, n_positions=65, n_embd=16, n_layer=2, n_head=2)
    model = transformers.GPT2LMHeadModel(config).eval()
    objective = bound(objective)
    given = rows(PROSE[:6], objective)[:4]
    examples = [objective.corrupt(row, draw(number)) for number, row in enumerate(given)]
    batch = collate(examples, 64, "causal", BYTES.token_bytes, BYTES.padding)
    with torch.no_grad():
        terms = objective.loss(Wrapped(model), batch)
        # Their model shifts the labels itself, and reads one token more than ours does.
        unshifted = torch.tensor(np.stack([sequence(one) for one in examples]))
        theirs = model(unshifted, labels=unshifted).loss
    assert terms.count == 4 * 64
    assert float(terms.sum / terms.count) == pytest.approx(float(theirs), rel=1e-6)
