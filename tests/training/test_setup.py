import torch

from ntp.data.tokenizers import Bytes
from ntp.models.transformer import Transformer
from ntp.objectives.causal import Causal
from ntp.training.setup import bind


class Drawing(Causal):
    """Draws as weights would be drawn."""

    def bind(self, context):
        self.drawn = torch.rand(8)


def drawn(seed):
    tokenizer, objective = Bytes().train(), Drawing()
    bind(objective, tokenizer, Transformer(tokenizer.vocabulary_size, width=16, layers=1), 32, seed)
    return objective.drawn


def test_weights_of_an_objective_depend_on_the_seed_and_are_not_those_of_the_model():
    torch.manual_seed(3)
    first_of_the_model = torch.rand(8)
    assert torch.equal(drawn(3), drawn(3))
    assert not torch.equal(drawn(3), drawn(4))
    assert not torch.equal(drawn(3), first_of_the_model)
