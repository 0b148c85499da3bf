"""An objective that asks nothing, for tests of steps without targets."""

import dataclasses

import numpy as np

from ntp.data.example import IGNORE
from ntp.objectives.causal import Causal


class Mute(Causal):
    """Causal without any target."""

    def corrupt(self, row, draw):
        """No position has a target."""
        example = super().corrupt(row, draw)
        return dataclasses.replace(example, targets=np.full_like(example.targets, IGNORE), target_bytes=None)
