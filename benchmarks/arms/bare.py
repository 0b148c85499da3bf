"""A bare PyTorch loop over ntp's own model: what is left when the framework is taken away."""

from torch import Tensor

from arms.loop import train
from arms.settings import Settings
from harness.composed import composed_setup
from harness.laps import Laps


def run(settings: Settings, laps: Laps) -> None:
    """Train the model that ``ntp train`` would build."""
    setup = composed_setup(settings.overrides())
    model = setup.model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        return model.token_nll(model(inputs).flatten(0, 1), targets.flatten()).mean()

    train(model, loss, setup, laps, settings.device)
