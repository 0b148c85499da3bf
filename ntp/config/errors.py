"""The one exception for what a user asked wrongly."""


class ConfigError(ValueError):
    """Something in the configuration, or in a file that it names, is wrong.

    The command line prints it as one line and exits with status 2.

    Args:
        key: the config key to change, such as ``data.sequence_length``; empty when no single key is to blame.
        problem: what is wrong and, where there is one, the closest right value.
    """

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        self.problem = problem
        super().__init__(f"{key}: {problem}" if key else problem)
