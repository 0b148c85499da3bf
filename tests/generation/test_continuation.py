import pytest
import torch

from ntp.generation.continuation import continue_tokens
from ntp.generation.sampling import Sampling
from ntp.models.transformer import Transformer

GREEDY = Sampling(greedy=True)


def model_of(**options):
    torch.manual_seed(3)
    return Transformer(vocabulary_size=13, width=16, layers=2, heads=2, init_std=0.3, **options).eval()


def write(model, prompt, **options):
    options = {"tokens": 12, "sampling": GREEDY, "end_of_text": None} | options
    return torch.stack(list(continue_tokens(model, torch.tensor(prompt), **options)), dim=1)


@pytest.mark.parametrize("positions", ["rotary", "learned", "alibi", "sinusoidal", "none"])
def test_cached_writing_equals_reading_everything_again_each_time(positions):
    model = model_of(positions=positions, context_length=64)
    text = [1, 2, 3]
    for _ in range(12):
        text.append(int(model.logits(model(torch.tensor([text]))[:, -1]).argmax()))
    assert write(model, [1, 2, 3])[0].tolist() == text[3:]


def test_a_text_can_be_longer_than_the_context():
    model = model_of(positions="learned", context_length=8)
    assert write(model, list(range(10)), tokens=30, context=8).shape == (1, 30)


def test_an_ended_sample_stays_ended_and_the_last_one_ends_the_writing():
    written = write(model_of(), [1], samples=8, sampling=Sampling(temperature=5.0), end_of_text=4, tokens=400, seed=1)
    assert written.shape[1] < 400
    for sample in written.tolist():
        assert set(sample[sample.index(4) :]) == {4}


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
