"""The exceptions that the command line prints as one line: each says by its status what a script should do next."""


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


class RunFailed(RuntimeError):
    """The run can't go on, for a reason that a person should read: diverged, out of memory, a process that died.

    The command line prints it as one line and exits with status 1.
    """


class RunStopped(RuntimeError):
    """The run was asked to stop, has written a checkpoint, and can go on from it.

    Args:
        message: what happened and how to go on.
        status: exit status: 130 for Ctrl-C, 143 for a signal or a time limit of the machine's.
    """

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)
