import pytest
import torch

from ntp.generation.continuation import continue_tokens
from ntp.generation.sampling import Sampling
from ntp.models.encoder_decoder import EncoderDecoder
from ntp.models.transformer import Transformer

GREEDY = Sampling(greedy=True)


def model_of(kind=Transformer, **options):
    torch.manual_seed(3)
    return kind(vocabulary_size=13, width=16, heads=2, init_std=0.3, **options).eval()


def write(model, prompt, **options):
    options = {"tokens": 12, "sampling": GREEDY} | options
    return torch.stack(list(continue_tokens(model, torch.tensor(prompt), **options)), dim=1)


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi", "sinusoidal", "none", "relative"])
def test_cached_writing_equals_reading_everything_again_each_time(positions):
    model = model_of(positions=positions, context_length=64)
    text = [1, 2, 3]
    for _ in range(12):
        text.append(int(model.logits(model(torch.tensor([text]))[:, -1]).argmax()))
    assert write(model, [1, 2, 3])[0].tolist() == text[3:]


@pytest.mark.parametrize("kind", [Transformer, EncoderDecoder])
@pytest.mark.parametrize("positions", ["rotary", "relative"])
def test_a_prompt_that_sees_itself_is_written_on_as_rows_with_a_prefix_are_trained(kind, positions):
    # With tied embeddings a model that is not trained repeats the token that it reads, whatever it sees.
    model = model_of(kind, positions=positions, tie_embeddings=False)
    prompt, text = [1, 2, 3, 4], [1, 2, 3, 4]
    for _ in range(8):
        # The prefix has rank 0 and what follows counts on: a row of prefix language modelling.
        order = torch.arange(len(text)).sub(len(prompt) - 1).clamp(min=0)[None]
        text.append(int(model.logits(model(torch.tensor([text]), attention="prefix", order=order)[:, -1]).argmax()))
    written = write(model, prompt, attention="full", tokens=8)[0].tolist()
    assert written == text[len(prompt) :]
    if kind is Transformer:
        assert written != write(model, prompt, tokens=8)[0].tolist()


@pytest.mark.parametrize("attention", ["causal", "full"])
def test_forced_tokens_are_read_causally_behind_the_prompt_and_not_yielded(attention):
    model = model_of()
    prompt, forced = [1, 2, 3], [7, 8]
    order = torch.tensor([[0, 0, 0, 1, 2] if attention == "full" else [0, 1, 2, 3, 4]])
    first = int(model.logits(model(torch.tensor([prompt + forced]), attention="ordered", order=order)[:, -1]).argmax())
    written = write(model, prompt, attention=attention, forced=forced)
    assert written.shape == (1, 12)
    assert int(written[0, 0]) == first


def test_a_text_can_be_longer_than_the_context():
    model = model_of(positions="learned", context_length=8)
    assert write(model, list(range(10)), tokens=30, context=8).shape == (1, 30)


def test_a_full_context_goes_on_from_its_last_half():
    model = model_of(positions="learned", context_length=8)
    written = write(model, list(range(8)), tokens=2, context=8)[0].tolist()
    assert written[1] == int(model.logits(model(torch.tensor([[*range(5, 8), written[0]]]))[:, -1]).argmax())


@pytest.mark.parametrize("stop", [[4], [4, 7]])
def test_an_ended_sample_stays_ended_and_the_last_one_ends_the_writing(stop):
    written = write(model_of(), [1], samples=8, sampling=Sampling(temperature=5.0), stop=stop, tokens=400, seed=1)
    assert written.shape[1] < 400
    for sample in written.tolist():
        end = min(sample.index(one) for one in stop if one in sample)
        assert set(sample[end:]) == {sample[end]}


def test_forbidden_tokens_are_never_written():
    forbidden = torch.tensor([0, 1, 2, 3, 4, 5])
    written = write(model_of(), [1], samples=16, sampling=Sampling(temperature=9.0), forbidden=forbidden, tokens=50)
    assert written.min() >= 6


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="empty prompt"):
        write(model_of(), [])


def test_the_mode_of_the_model_is_left_as_it_was():
    model = model_of(dropout=0.5).train()
    write(model, [1])
    assert model.training
