"""An objective without inference of its own, for tests."""

from ntp.objectives.causal import Causal


class Silent(Causal):
    """Causal, but it does not say that it can continue a text."""

    inference = frozenset()
