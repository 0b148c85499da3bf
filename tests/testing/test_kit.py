"""What the kit takes, what it says, and what it leaves alone."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import ntp.testing
from ntp.config.errors import ConfigError
from ntp.data.example import IGNORE, Example
from ntp.data.tokenizers import Characters, WordPiece
from ntp.models.transformer import Transformer
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mlm import MaskedLanguageModel
from ntp.objectives.prefix_lm import PrefixLM
from ntp.testing import ConformanceError, NotApplicable, check_names, check_objective, examples_of, iter_checks
from ntp.testing.bench import Bench
from ntp.testing.corpus import MemoryStore, byte_tokenizer, documents, subword_tokenizer, twins
from ntp.testing.flow import _comparable
from ntp.testing.perturbation import closure, compare, sight, vary
from tests.commands.needy import Needy
from tests.testing.wrong import LossForgetsTheDocuments, ShiftByZero

SOME = ["arrays_fit", "no_target_is_seen", "splitting_changes_nothing"]


@pytest.mark.parametrize(
    "objective", [Causal(), Causal, lambda: Causal(), PrefixLM(fraction=0.25)], ids=["object", "class", "maker", "set"]
)
def test_it_takes_an_objective_its_class_or_what_makes_one(objective):
    assert check_objective(objective, checks=SOME).passed == SOME


def test_what_makes_something_else_is_refused():
    with pytest.raises(TypeError, match="an objective is needed"):
        check_objective(dict)


def test_the_object_that_is_given_stays_as_it_is():
    objective = MaskedDiffusion()
    before = dict(vars(objective))
    check_objective(objective, quick=True)
    assert vars(objective) == before
    assert objective.mask_id == -1  # not bound


def test_it_leaves_the_random_generators_of_its_caller_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    check_objective(MaskedDiffusion(), quick=True)
    drawn = torch.rand(1), np.random.random()
    torch.manual_seed(3)
    np.random.seed(3)
    assert drawn == (torch.rand(1), np.random.random())


def test_the_report_says_what_passed_and_what_does_not_apply():
    report = check_objective(Causal(), quick=True)
    assert set(report.passed) | set(report.not_applicable) == set(check_names(quick=True))
    assert report.not_applicable["draws_differ"] == "nothing about it is random"


def test_the_quick_checks_are_a_part_of_all():
    assert set(check_names(quick=True)) < set(check_names())


def test_a_check_that_does_not_exist_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'no_target_is_seen'"):
        check_objective(Causal(), checks=["no_targets_are_seen"])


def test_a_failure_names_the_rule_the_row_the_position_and_what_to_look_for():
    with pytest.raises(ConformanceError) as caught:
        check_objective(ShiftByZero(), checks=["no_target_is_seen"])
    first, seen, look = str(caught.value).splitlines()
    assert first == "ShiftByZero breaks no_target_is_seen: no position that is trained can see its own target"
    assert "row 1 of the text (documents isolated), position 0: " in seen
    assert "a shift of the targets by 0" in look
    assert "\n" not in caught.value.line


def test_all_rules_that_are_broken_are_said_at_once():
    with pytest.raises(ConformanceError) as caught:
        check_objective(ShiftByZero(), quick=True)
    names = [caught.value.check, *(one.check for one in caught.value.others)]
    assert names == ["the_text_can_be_restored", "no_target_is_seen"]
    assert all(f"ShiftByZero breaks {name}" in str(caught.value) for name in names)


def test_an_error_inside_of_the_objective_is_a_failure_that_shows_it():
    class Clumsy(Causal):
        def corrupt(self, row, draw):
            raise KeyError("mine")

    with pytest.raises(ConformanceError, match="KeyError was raised: 'mine'") as caught:
        check_objective(Clumsy, checks=["arrays_fit"])
    assert isinstance(caught.value.__cause__, KeyError)


def test_an_objective_that_refuses_the_rows_is_not_called_wrong():
    with pytest.raises(ConfigError, match="at least 2"):
        check_objective(BlockDiffusion(), sequence_length=1)


def test_the_tokenizer_of_the_kit_has_what_the_objective_asks_for():
    assert check_objective(Needy, checks=SOME).passed == SOME


@pytest.mark.parametrize("recipe", [Characters(), WordPiece(vocabulary_size=700)], ids=["char", "wordpiece"])
@pytest.mark.parametrize("objective", [Causal, MaskedLanguageModel], ids=["causal", "mlm"])
def test_it_checks_with_the_tokenizer_and_the_text_that_it_is_given(recipe, objective):
    texts = [f"text {number} is of {number * number} lines, and no more\n" * (1 + number % 4) for number in range(60)]
    assert check_objective(objective, tokenizer=recipe.train(texts), corpus=texts, quick=True).passed


@pytest.mark.parametrize("given", ["a model", "a function"])
def test_it_checks_with_the_model_that_it_is_given(given):
    def make(vocabulary_size):
        return Transformer(vocabulary_size, width=16, layers=1, heads=2, positions="alibi")

    model = make(subword_tokenizer().vocabulary_size)
    before = [one.clone() for one in model.parameters()]
    names = [*SOME, "a_batch_can_be_learned_by_heart"]
    assert check_objective(Causal(), model=model if given == "a model" else make, checks=names).passed == names
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))


def test_objectives_that_an_encoder_decoder_serves_are_checked_with_one_too():
    assert list(Bench(PrefixLM).models) == ["Transformer", "EncoderDecoder"]
    assert list(Bench(Causal).models) == ["Transformer"]


def test_a_check_runs_alone():
    (check,) = iter_checks(names=["draws_differ"])
    assert (check.theme, check.quick, check.slow) == ("randomness", True, False)
    check(MaskedDiffusion())
    with pytest.raises(NotApplicable):
        check(Causal())


def test_examples_of_two_objectives_come_from_the_same_rows():
    ours, theirs = examples_of(Causal(), rows=9), examples_of(PrefixLM(), rows=9)
    assert len(ours) == len(theirs) == 9
    for (row, example), (same_row, other) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(row.tokens, same_row.tokens)
        np.testing.assert_array_equal(example.tokens, other.tokens)


def test_to_import_the_plug_in_takes_no_torch():
    code = "import sys, ntp.testing.plugin; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_the_package_offers_exists():
    assert all(getattr(ntp.testing, name) for name in ntp.testing.__all__)
    with pytest.raises(AttributeError, match="check_objektive"):
        ntp.testing.check_objektive  # noqa: B018 - the error is the question


# -- what the checks are built of --


def test_the_text_has_tiny_documents_and_characters_of_several_bytes():
    texts = documents()
    assert {len(character.encode()) for text in texts for character in text} == {1, 2, 3, 4}
    assert {"a", " ", "\n"} < set(texts)
    assert documents() is texts
    tokens = MemoryStore.of(texts, subword_tokenizer())
    assert min(np.diff(tokens.offsets)) == 2  # one token and the end of the text


def test_a_store_in_memory_holds_what_one_on_disk_holds(tmp_path):
    from ntp.data.store import write_store

    ours = MemoryStore.of(documents(), subword_tokenizer())
    theirs = write_store(tmp_path / "store", documents(), subword_tokenizer(), {})
    for name in ("tokens", "bytes", "offsets"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert (ours.total_bytes, ours.documents) == (theirs.total_bytes, theirs.documents)


def test_the_beginning_of_a_store_ends_with_its_last_document():
    store = MemoryStore.of(documents(), subword_tokenizer())
    begun = MemoryStore.beginning(store, 100, end_of_text=0)
    assert len(begun.tokens) == begun.offsets[-1] == 100
    assert (begun.tokens[begun.offsets[1:] - 1] == 0).all()
    assert begun.total_bytes == begun.bytes.sum() <= store.bytes[:100].sum()


@pytest.mark.parametrize("tokenizer", [subword_tokenizer(), byte_tokenizer()], ids=["subwords", "bytes"])
def test_a_twin_is_another_text_of_the_same_length_and_kind(tokenizer):
    twin_V = twins(tokenizer)
    ids = np.flatnonzero(twin_V >= 0)
    assert len(ids) > 60
    assert (twin_V[ids] != ids).all()
    for one, other in zip(ids.tolist(), twin_V[ids].tolist(), strict=True):
        ours, theirs = tokenizer.token_texts[one], tokenizer.token_texts[other]
        assert len(ours) == len(theirs)
        assert [chr(a).isalpha() for a in ours] == [chr(a).isalpha() for a in theirs]


def test_a_change_of_one_token_moves_the_predictions_behind_it_and_no_others():
    bench = Bench(Causal)
    (sample,) = bench.full_samples("concatenate", 1)
    variants = vary(bench, bench.subject, sample, [np.array([place]) for place in range(len(sample.row))])
    (prediction,) = compare(bench, bench.subject, variants.base, variants.examples)
    assert len(variants.examples) > 20
    for (place,), moved in zip(variants.places, prediction.moved, strict=True):
        np.testing.assert_array_equal(moved, np.arange(len(variants.base)) >= place)


def test_documents_are_told_apart_also_where_the_given_text_has_only_one():
    text = ["one long document of many words " * 200]
    assert check_objective(Causal, corpus=text, checks=["documents_stay_apart"]).passed
    with pytest.raises(ConformanceError, match="two documents"):
        check_objective(LossForgetsTheDocuments, corpus=text, checks=["documents_stay_apart"])


class EverySecondRow(Causal):
    """Asks for nothing in half of the rows."""

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        return made if draw.row % 2 else replace(made, targets=np.full(len(made), IGNORE), target_bytes=None)

    def restore(self, example):
        return None


def test_rows_without_a_target_are_nothing_unusual():
    names = [check.name for check in iter_checks() if check.theme in ("shapes", "text", "flow", "loss")]
    assert "no_target_is_seen" in check_objective(EverySecondRow, checks=names).passed


class LeavesOut(Causal):
    """Leaves out tokens with an even id, so that another token may change the length of a row."""

    def corrupt(self, row, draw):
        made = super().corrupt(row, draw)
        kept = made.tokens % 2 == 1
        return Example(tokens=made.tokens[kept], targets=made.targets[kept], segments=made.segments[kept])


def test_rows_that_lose_their_structure_with_one_token_are_compared_byte_by_byte():
    assert _comparable(Bench(Causal)).tokenizer is subword_tokenizer()
    assert _comparable(Bench(LeavesOut)).tokenizer is byte_tokenizer()


def test_what_is_seen_through_several_layers_is_found():
    chain = np.eye(4, dtype=bool) | np.eye(4, k=-1, dtype=bool)
    np.testing.assert_array_equal(closure(chain), np.tri(4, dtype=bool))


def test_sight_is_the_rule_of_attention():
    for row, example in examples_of(PrefixLM(), rows=6):
        seen = sight(example, "prefix")
        same = example.segments[:, None] == example.segments
        np.testing.assert_array_equal(seen, same & (example.order <= example.order[:, None]))
        assert len(row) == len(example) + 1
        assert (example.targets != IGNORE).any()


def test_the_page_about_the_kit_lists_every_check_with_what_must_hold():
    from tests.docs.markdown import ROOT

    page = (ROOT / "docs" / "conformance.md").read_text()
    listed = [line for line in page.splitlines() if line.startswith("| `") and line.count("|") == 4]
    expected = [f"| `{one.name}` | {one.invariant} | {'yes' if one.quick else ''} |" for one in iter_checks()]
    assert [line for line in listed if line.split("`")[1] in check_names()] == expected


def test_the_page_about_the_kit_shows_the_message_as_it_is():
    from tests.docs.markdown import ROOT, blocks

    shown = blocks(ROOT / "docs" / "conformance.md", "text")[0].text
    with pytest.raises(ConformanceError) as caught:
        check_objective(ShiftByZero(), checks=["no_target_is_seen"])
    assert shown.split() == str(caught.value).split()
