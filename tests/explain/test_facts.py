"""An objective in words."""

import pytest

from ntp.explain.facts import abbreviated, component, facts, leaves, sentence, written
from ntp.objectives.base import Objective
from tests.explain.conftest import Chosen, Masked, TwoCopies


def test_the_sentence_is_the_first_paragraph_of_the_class_on_one_line():
    class Wrapped(Objective):
        """Learns ``one``
        thing.

        And more.
        """

    assert sentence(Wrapped) == "Learns one thing."


def test_a_class_without_words_of_its_own_does_not_speak_those_of_its_base():
    class Silent(Masked):
        pass

    assert sentence(Silent) == ""


def test_facts_say_what_the_class_declares_and_what_it_means():
    found = {
        fact.name: fact for fact in facts(Masked(), 48, {"_target_": "x", "rate": 0.5, "subs": True, "unit": None})
    }
    assert found["attention"].value == "full"
    assert "upper bound" not in found["likelihood"].meaning
    assert found["inference"].value == "infill"
    assert found["special tokens"].value == "<|mask|>"
    assert found["row"].value == "48 tokens of text become 48 positions"
    assert found["options"].value == "rate=0.5, subs=true, unit=null"


def test_a_row_of_two_copies_takes_half_its_length_of_text():
    found = {fact.name: fact.value for fact in facts(TwoCopies(), 48, {})}
    assert found["row"] == "24 tokens of text become 48 positions"
    assert "options" not in found


def test_lookahead_is_said():
    class Ahead(Masked):
        lookahead = 3

    (row,) = [fact for fact in facts(Ahead(), 48, {}) if fact.name == "row"]
    assert (row.value, row.meaning) == (
        "51 tokens of text become 48 positions",
        "the last 3 of them only predicted",
    )


def test_a_series_of_numbered_tokens_shows_its_ends():
    assert abbreviated(["<|mask|>", *(f"<|s_{n}|>" for n in range(100))]) == ["<|mask|>", "<|s_0|>", "…", "<|s_99|>"]
    assert abbreviated(["<|s_0|>", "<|s_1|>"]) == ["<|s_0|>", "<|s_1|>"]


def test_components_are_found_in_mixtures_of_mixtures():
    outer = Chosen()
    outer.parts[1] = Chosen()
    assert leaves(outer) == [(0,), (1, 0), (1, 1)]
    options = {
        "weights": [1, 2],
        "components": {"copied": {"_target_": "x", "components": {"hidden": {"_target_": "y", "rate": 0.5}}}},
    }
    found = component(outer, (1, 0), options)
    assert (found.name, found.options) == ("copied / hidden", "rate=0.5")
    assert found.sentence == sentence(Masked)
    assert written(options) == "weights=[1, 2]"


@pytest.mark.parametrize("objective", [Masked(), TwoCopies()])
def test_other_objectives_have_no_components(objective):
    assert leaves(objective) == [()]
