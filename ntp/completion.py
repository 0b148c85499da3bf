"""Shell completion: commands are ntp's, everything behind them is Hydra's."""

import os

from ntp.cli import COMMANDS, DONE


def complete(arguments: list[str]) -> int:
    """Answer ``ntp -sc install=SHELL`` and ``ntp -sc query=SHELL``, the latter for the line in ``COMP_LINE``."""
    from ntp.config.compose import hydra_main

    words = os.environ.get("COMP_LINE", "").split(" ")
    asks = len(arguments) > 1 and arguments[1].startswith("query=")
    if asks and len(words) <= 2:
        print(" ".join(COMMANDS))
        return DONE
    command = words[1] if len(words) > 1 and words[1] in COMMANDS else "train"
    if asks:  # Hydra expects the program's name and then the overrides
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
    hydra_main(command, arguments)
    return DONE
