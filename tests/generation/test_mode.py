"""Writing and being examined leave a model in the mode that it was in."""

from torch import nn

from ntp.generation.mode import evaluating


def test_every_part_gets_its_own_mode_back():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Dropout()))
    model[1][0].eval()
    before = [part.training for part in model.modules()]
    with evaluating(model, nn.Dropout()):
        assert not any(part.training for part in model.modules())
    assert [part.training for part in model.modules()] == before
    assert before.count(False) == 1
