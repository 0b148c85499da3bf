from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ntp.evaluation.candidate import Candidate
from ntp.evaluation.hidden_states import Reading, hidden_states
from ntp.evaluation.taking import candidate_of
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.objectives.block_diffusion import BlockDiffusion
from ntp.objectives.causal import Causal
from ntp.objectives.masked_diffusion import MaskedDiffusion
from ntp.objectives.mixture import Mixture
from ntp.objectives.prefix_lm import PrefixLM
from ntp.training.load import load_run

TEXT = "def f1(x):\n    return x"


@pytest.fixture(scope="module")
def candidate(trained: Path) -> Candidate:
    """A causal run whose tokens are characters, and whose documents follow an end-of-text token."""
    device = torch.device("cpu")
    return candidate_of(load_run(str(trained), "last", [], device), draws=1, precision="32-true", device=device)


def forward(candidate: Candidate, text: str) -> np.ndarray:
    """Behind each character, by a plain forward."""
    end = candidate.tokenizer.end_of_text
    tokens = torch.tensor([[end, *candidate.tokenizer.encode(text), end]])
    with torch.no_grad():
        return candidate.model(tokens, attention="causal")[0, 1:-1].numpy()


def test_the_state_of_a_place_is_that_of_the_token_with_the_byte_before_it(candidate: Candidate) -> None:
    ends = np.array([3, 6, len(TEXT)])
    (states,) = hidden_states(candidate, [Reading(TEXT, ends)])
    np.testing.assert_allclose(states, forward(candidate, TEXT)[ends - 1], atol=1e-5)


def test_places_are_bytes_whatever_the_characters_take(candidate: Candidate) -> None:
    text = "def é(x): x"  # a character that the tokenizer has not, of two bytes
    (states,) = hidden_states(candidate, [Reading(text, np.array([6, 7]))])
    np.testing.assert_allclose(states, forward(candidate, text)[[4, 5]], atol=1e-5)


def test_a_mean_is_that_of_all_tokens_of_the_text(candidate: Candidate) -> None:
    (mean,) = hidden_states(candidate, [Reading(TEXT, None)])
    np.testing.assert_allclose(mean[0], forward(candidate, TEXT).mean(0), atol=1e-5)


def test_several_places_may_share_a_token(candidate: Candidate) -> None:
    (states,) = hidden_states(candidate, [Reading("é", np.array([1, 2]))])
    np.testing.assert_array_equal(states[0], states[1])


def test_a_text_longer_than_a_row_is_read_to_its_end(candidate: Candidate) -> None:
    text = TEXT * 5
    ends = np.arange(1, len(text) + 1)
    states, mean = hidden_states(candidate, [Reading(text, ends), Reading(text, None)])
    assert (np.abs(states).sum(1) > 0).all()
    np.testing.assert_allclose(mean[0], states.mean(0), atol=1e-5)
    # What stands near the beginning is taken from the first piece.
    np.testing.assert_allclose(states[:10], forward(candidate, text[:20])[:10], atol=1e-5)


def test_nothing_depends_on_what_else_is_read_or_how_many_rows_at_a_time(candidate: Candidate) -> None:
    readings = [Reading(TEXT[:size], np.array([size])) for size in range(1, len(TEXT))]
    together = hidden_states(candidate, readings)
    alone = [hidden_states(replace(candidate, batch_size=1), [one])[0] for one in readings]
    np.testing.assert_allclose(np.concatenate(together), np.concatenate(alone), atol=1e-5)


def test_the_last_layer_is_what_the_last_norm_reads(candidate: Candidate) -> None:
    reading = Reading(TEXT, np.array([5]))
    (before,) = hidden_states(candidate, [reading], layer=2)
    (behind,) = hidden_states(candidate, [reading])
    with torch.no_grad():
        normed = candidate.model.stack.final_norm(torch.tensor(before))  # type: ignore[union-attr, operator]
    np.testing.assert_allclose(normed, behind, atol=1e-5)


def test_a_layer_that_is_not_there_is_refused(candidate: Candidate) -> None:
    with pytest.raises(ValueError, match="there is no layer 3: Transformer has layers 1 to 2"):
        hidden_states(candidate, [Reading(TEXT, None)], layer=3)


def differs_when_the_end_changes(candidate: Candidate) -> np.ndarray:
    """[L] bool, the places of a text whose states know its last character."""
    ends = np.arange(1, 13)
    one, other = hidden_states(candidate, [Reading("abcdefghijkl", ends), Reading("abcdefghijkx", ends)])
    return np.abs(one - other).max(1) > 1e-6


def test_a_causal_objective_reads_what_stands_before(candidate: Candidate) -> None:
    assert differs_when_the_end_changes(candidate).tolist() == [False] * 11 + [True]


def test_an_objective_that_sees_both_sides_reads_both(candidate: Candidate) -> None:
    assert differs_when_the_end_changes(replace(candidate, objective=MaskedDiffusion())).all()


def test_an_objective_of_blocks_reads_block_by_block(candidate: Candidate) -> None:
    blocks = replace(candidate, objective=BlockDiffusion(block_size=4), isolated=True)
    assert differs_when_the_end_changes(blocks).tolist() == [False] * 8 + [True] * 4


def test_a_mixture_reads_as_its_heaviest_component_does(candidate: Candidate) -> None:
    parts = {"causal": Causal(), "diffusion": MaskedDiffusion()}
    causal = Mixture(parts, {"causal": 3.0, "diffusion": 1.0})
    full = Mixture(parts, {"causal": 1.0, "diffusion": 3.0})
    assert not differs_when_the_end_changes(replace(candidate, objective=causal))[0]
    assert differs_when_the_end_changes(replace(candidate, objective=full))[0]


def test_the_encoder_of_two_stacks_reads_the_text_to_its_end(candidate: Candidate) -> None:
    model = EncoderDecoder(candidate.tokenizer.vocabulary_size, width=32).eval()
    reader = replace(candidate, model=model, objective=PrefixLM())
    end = candidate.tokenizer.end_of_text
    tokens = torch.tensor([[end, *candidate.tokenizer.encode(TEXT), end]])
    with torch.no_grad():
        encoded = model.encoder(model.token_embedding(tokens), attention="full")[0, 1:-1]
    (states,) = hidden_states(reader, [Reading(TEXT, np.arange(1, len(TEXT) + 1))])
    np.testing.assert_allclose(states, encoded, atol=1e-5)


def test_processes_that_share_the_work_have_the_states_of_one(candidate: Candidate) -> None:
    readings = [Reading(TEXT[:size], np.array([size])) for size in range(1, len(TEXT))]
    alone = hidden_states(replace(candidate, batch_size=4), readings)
    shares: list[object] = []

    def keep(own: object) -> list[object]:
        shares.append(own)
        raise InterruptedError

    for process in range(2):
        share = replace(candidate, batch_size=4, process=process, processes=2, gather=keep)
        with pytest.raises(InterruptedError):
            hidden_states(share, readings)
    together = replace(candidate, batch_size=4, process=0, processes=2, gather=lambda own: shares)
    for one, other in zip(alone, hidden_states(together, readings), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_untrained_model_is_another_one_of_the_same_shape(candidate: Candidate) -> None:
    assert candidate.untrained is not None
    before, trained = candidate.untrained().state_dict(), candidate.model.state_dict()
    assert {name: one.shape for name, one in before.items()} == {name: one.shape for name, one in trained.items()}
    assert any(not torch.equal(before[name], trained[name]) for name in before)
