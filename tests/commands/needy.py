"""An objective that needs a special token of its own, for tests."""

from ntp.objectives.causal import Causal


class Needy(Causal):
    """Causal, with a token nobody else has."""

    def special_tokens(self):
        return ("<|mine|>",)
