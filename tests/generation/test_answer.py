import numpy as np
import pytest
import torch

from ntp.config.errors import ConfigError
from ntp.data.special_tokens import MASK
from ntp.data.tokenizers import Bytes, Tokenizer
from ntp.generation.answer import Request, answer
from ntp.generation.sampling import Sampling
from ntp.models.transformer import Transformer
from ntp.objectives.causal import Causal
from ntp.objectives.query import Decode, Unmask

TOKENIZER = Bytes().train()
END, MASK_ID = TOKENIZER.end_of_text, TOKENIZER.special_tokens[MASK]
WILD = Sampling(temperature=20.0)  # whatever may be chosen soon is


class Asked(Causal):
    """An objective that answers every question with the query that a test gives it, and keeps the question."""

    inference = frozenset({"continue", "infill"})

    def __init__(self, make_query, inference=inference, forms=()):
        super().__init__()
        self.make_query, self.inference, self.forms = make_query, inference, forms

    def query(self, prefix, suffix, length, form=None):
        self.asked = (prefix, suffix, length, form)
        return self.make_query(prefix, suffix, length)


def decoding(**options):
    return Asked(lambda prefix, suffix, length: Decode(prefix, **options))


def unmasking(**options):
    def make_query(prefix, suffix, length):
        tokens = np.concatenate([prefix, np.full(length, MASK_ID), [] if suffix is None else suffix]).astype(np.int64)
        return Unmask(tokens, tokens == MASK_ID, MASK_ID, **options)

    return Asked(make_query)


def model_of(**options):
    torch.manual_seed(0)
    size = options.pop("vocabulary_size", TOKENIZER.vocabulary_size)
    return Transformer(vocabulary_size=size, width=16, layers=1, heads=2, init_std=0.3, **options).eval()


def ask(objective, prefix="ab", suffix=None, model=None, tokenizer=TOKENIZER, show=None, **options):
    options = {"tokens": 20, "sampling": WILD} | options
    return answer(model or model_of(), objective, tokenizer, Request(prefix, suffix, **options), show)


class Fixed(torch.nn.Module):
    """A model that writes one text, whatever it reads: token t stands at position t of it."""

    context_length = None

    def __init__(self, ids, size=TOKENIZER.vocabulary_size):
        super().__init__()
        self.ids, self.vocabulary_size = torch.tensor(ids), size
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, tokens, *, attention="causal", cache=None):
        begin = 0 if cache is None else cache.length
        index = torch.arange(begin, begin + tokens.shape[1]) + (cache is not None)  # a causal model predicts the next
        if cache is not None:
            cache.advance(tokens.shape[1])
        return torch.nn.functional.one_hot(self.ids[index.clamp(max=len(self.ids) - 1)], self.vocabulary_size).expand(
            len(tokens), -1, -1
        )

    def logits(self, hidden):
        return 1000.0 * hidden


def fixed(text, *behind):
    """Writes ``text`` behind the end-of-text token, and then the tokens given."""
    return Fixed([END, *TOKENIZER.encode(text), *behind])


def test_the_objective_is_asked_with_the_token_before_every_document_and_the_text_as_tokens():
    objective = decoding()
    objective.forms = ("a", "b")
    ask(objective, "ab", "c", tokens=7, form="b")
    prefix, suffix, length, form = objective.asked
    assert prefix.tolist() == [END, *TOKENIZER.encode("ab")]
    assert suffix.tolist() == TOKENIZER.encode("c").tolist()
    assert (length, form) == (7, "b")


def test_an_empty_prompt_begins_a_document_and_a_continuation_has_no_suffix():
    objective = decoding()
    ask(objective, "")
    assert objective.asked[0].tolist() == [END]
    assert objective.asked[1] is None


@pytest.mark.parametrize("objective", [decoding(), unmasking()], ids=["decode", "unmask"])
def test_a_continuation_ends_at_the_first_end_of_text(objective):
    model = fixed("abcdef", END, *TOKENIZER.encode("more of it, " * 3))
    done = ask(objective, "ab", model=model)
    assert (done.texts, done.ended) == (["cdef"], [True])
    other = ask(objective, "ab", model=model, stop_at_end=False, tokens=16)  # the end is one of them
    assert (other.texts, other.ended) == (["cdefmore of it,"], [False])


@pytest.mark.parametrize("objective", [decoding(), unmasking()], ids=["decode", "unmask"])
def test_an_answer_without_an_end_says_so(objective):
    assert ask(objective, "ab", model=fixed("abcdefghijk"), tokens=4).ended == [False]


def test_a_middle_that_is_decoded_ends_at_the_end_of_text_whatever_is_wished_for_continuations():
    model = fixed("abcd", END, *TOKENIZER.encode("more"))
    assert ask(decoding(), "ab", "x", model=model, stop_at_end=False).texts == ["cd"]


def test_a_token_that_stops_is_no_part_of_the_answer():
    stop = TOKENIZER.special_tokens["<|sentinel_1|>"]
    model = fixed("abcd", stop, *TOKENIZER.encode("more"))
    done = ask(decoding(stop=frozenset({stop})), "ab", "x", model=model)
    assert (done.texts, done.ended) == (["cd"], [True])


def test_forced_tokens_are_no_part_of_the_answer():
    model = fixed("ab??cd", END)
    assert ask(decoding(forced=TOKENIZER.encode("??").tolist()), "ab", "x", model=model).texts == ["cd"]


def test_a_middle_that_is_unmasked_has_exactly_the_length_asked_for_and_no_end():
    for length in (1, 5, 12):
        assert ask(unmasking(), "ab", "c", model=fixed("ab" + "z" * 40), tokens=length).texts == ["z" * length]
    model, second = Fixed([END, *TOKENIZER.encode("ab"), *[END] * 30]), TOKENIZER.encode("z")[0]
    model.logits = lambda hidden: 1000.0 * hidden + 900.0 * (torch.arange(model.vocabulary_size) == second)
    done = ask(unmasking(), "ab", "c", model=model, tokens=5)
    assert (done.texts, done.ended) == (["zzzzz"], [True])


@pytest.mark.parametrize("suffix", [None, "c"])
@pytest.mark.parametrize("make", [decoding, unmasking])
def test_reserved_tokens_and_ids_beyond_the_tokenizer_are_never_written(monkeypatch, make, suffix):
    ids, decode = [], TOKENIZER.decode
    monkeypatch.setattr(TOKENIZER, "decode", lambda given: ids.extend(given) or decode(given))
    model = model_of(vocabulary_size=TOKENIZER.vocabulary_size + 50)
    for seed in range(5):  # a middle may end early
        ask(make(), suffix=suffix, model=model, tokens=400, stop_at_end=False, seed=seed)
    assert len(ids) >= 400
    assert set(ids) & TOKENIZER.special_ids <= {END}
    assert max(ids) < TOKENIZER.vocabulary_size


@pytest.mark.parametrize("objective", [decoding(), unmasking()], ids=["decode", "unmask"])
def test_what_is_shown_piece_by_piece_is_the_text_of_the_first_sample(objective):
    pieces = []
    model = fixed("ab: naïve ✓ 日本語", END)
    done = ask(objective, "ab", model=model, show=pieces.append, tokens=25)
    assert "".join(pieces) == done.texts[0] == ": naïve ✓ 日本語"
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_spaces_between_words_survive_tokenizers_that_decode_words_without_them():
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers

    words = ["<|endoftext|>", "[UNK]", "a", "man", "sat", "##ing", "down"]
    backend = Backend(models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece()
    backend.add_special_tokens(["<|endoftext|>"])
    tokenizer = Tokenizer(backend)
    model = Fixed([0, 2, 3, 4, 6, 0], len(words))
    assert ask(decoding(), "a man", model=model, tokenizer=tokenizer).texts == [" sat down"]
    model = Fixed([0, 2, 4, 5, 6, 0], len(words))
    assert ask(decoding(), "a sat", model=model, tokenizer=tokenizer).texts == ["ing down"]


@pytest.mark.parametrize(
    ("inference", "suffix", "key", "message"),
    [
        ({"continue"}, "x", "suffix", r"cannot infill a text; it can continue a text \(prompt='...'\)$"),
        ({"infill"}, None, "prompt", r"cannot continue a text; it can infill one \(prefix='...' suffix='...'\)$"),
        (set(), None, "run", "cannot write text"),
        (set(), "x", "run", "cannot write text"),
    ],
)
def test_what_an_objective_cannot_do_is_refused_with_what_it_can(inference, suffix, key, message):
    with pytest.raises(ConfigError, match=f"^{key}: .*{message}"):
        ask(Asked(None, inference=frozenset(inference)), suffix=suffix)


@pytest.mark.parametrize(
    ("objective", "options", "message"),
    [
        (decoding(), {"form": "psm"}, "form: .*leave it out to continue"),
        (decoding(), {"form": "psm", "suffix": "b"}, "form: .*in one way only"),
        (Asked(None, forms=("psm", "spm")), {"form": "spn", "suffix": "b"}, r"form: .*did you mean 'spm'\?\)$"),
        (
            Asked(None, forms=("psm", "spm")),
            {"form": "x", "suffix": "b"},
            r"form: .*no form 'x' \(choose from: psm, spm\)$",
        ),
        (decoding(), {"method": "confidence"}, "method: .*from left to right"),
        (decoding(), {"steps": 3}, "steps: .*from left to right"),
        (decoding(), {"block": 3}, "block: .*from left to right"),
        (decoding(), {"speculate": True}, "speculate: .*no extra heads"),
        (decoding(drafter=object()), {"speculate": True, "samples": 2}, "speculate: .*samples=1"),
        (unmasking(), {"speculate": True}, "speculate: .*fills in masks"),
        (unmasking(block=4), {"block": 3}, "block: .*of its own, of 4"),
    ],
)
def test_options_that_do_not_apply_are_refused(objective, options, message):
    with pytest.raises(ConfigError, match=message):
        ask(objective, **options)


def test_a_prompt_that_must_be_seen_whole_must_fit_and_what_follows_ends_with_the_context():
    model = model_of(positions="learned", context_length=10)
    objective = decoding(attention="full", forced=[7])
    with pytest.raises(ConfigError, match=r"prompt: 11 tokens to read exceed the model's context of 10"):
        ask(objective, "x" * 9, model=model)
    for prompt, expected in (("x" * 8, 1), ("x" * 3, 6)):  # with the end of text before it and the forced token behind
        written = ask(objective, prompt, model=model, sampling=Sampling(greedy=True), stop_at_end=False)
        assert written.ended == [False]
        shorter = ask(
            objective, prompt, model=model, sampling=Sampling(greedy=True), stop_at_end=False, tokens=expected
        )
        assert written.texts == shorter.texts


def test_a_causal_text_may_be_longer_than_the_context_but_not_one_with_a_suffix():
    model = model_of(positions="learned", context_length=10)
    ask(decoding(), "x" * 20, model=model)
    with pytest.raises(ConfigError, match="prefix: 21 tokens to read"):
        ask(decoding(), "x" * 20, "y", model=model)


def test_masks_that_do_not_fit_are_refused_with_the_most_that_do():
    model = model_of(positions="learned", context_length=10)
    with pytest.raises(ConfigError, match=r"tokens: 20 and what stands around .*context of 10; at most 6 fit"):
        ask(unmasking(), "ab", "c", model=model)
    assert len(ask(unmasking(), "ab", "c", model=model, tokens=6).texts) == 1
    with pytest.raises(ConfigError, match="shorten the text"):
        ask(unmasking(), "ab" * 10, "c", model=model)


@pytest.mark.parametrize(("isolated", "prefix", "begins"), [(False, "ab", True), (True, "ab", False), (True, "", True)])
def test_a_text_is_read_behind_the_end_of_another_where_training_read_it_so(isolated, prefix, begins):
    objective = decoding()
    answer(model_of(), objective, TOKENIZER, Request(prefix, None, tokens=2, sampling=WILD), isolated=isolated)
    assert (objective.asked[0][0] == END) == begins
