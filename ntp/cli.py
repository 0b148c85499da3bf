"""``ntp <command> [hydra overrides]``.

The top-level help must answer at once, so this module imports nothing heavy, and a command's module is imported only
when that command runs.
"""

import os
import sys
from collections.abc import Sequence

from ntp import __version__

COMMANDS = {
    "train": "train a model under an objective",
    "evaluate": "measure a trained run on its validation text or on any other data",
    "compare": "compare runs: which objective is better, at what, for what cost, and is the difference real",
    "baseline": "let n-grams, classifiers and compressors take the same exams",
    "plan": "say before a sweep what difference it could detect",
    "dashboard": "make a Weights & Biases workspace and report that compare objectives",
    "generate": "write text with a trained run",
    "explain": "show what an objective makes of a real row",
    "sync": "upload runs to Weights & Biases after the fact",
    "check": "validate a configuration and say what would run, without training",
    "certify": "prove that a run goes on exactly where it was interrupted",
}

DONE, FAILED, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130

HELP = f"""ntp {__version__}: pre-train language models under any objective, and find out which is better

usage: ntp <command> [override=value ...]

commands:
{chr(10).join(f"  {name:<10} {purpose}" for name, purpose in COMMANDS.items())}

start:
  ntp train                                       the default run: a small model on the standard library's source code
  ntp train data=files data.path=notes.txt        your own text
  ntp train --help                                everything that can be configured
  ntp train --cfg job                             the configuration that would run
  eval "$(ntp --shell-completion install=bash)"   completion in this shell (also zsh, fish)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: arguments after the program's name; those of the process when absent.

    Returns:
        The exit status: 0 done, 1 failed, 2 what was asked for is wrong, 130 interrupted, 143 stopped
        by a signal or a time limit, with a checkpoint to go on from.
    """
    try:
        status = dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # the reader of a pipe has gone, as in `ntp generate ... | head`
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the interpreter flushes it on exit
        return DONE


def dispatch(arguments: list[str]) -> int:
    """Answer what needs no configuration, and run the command that does."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return DONE
    if arguments[0] in ("-V", "--version"):
        print(f"ntp {__version__}")
        return DONE
    if arguments[0] in ("-sc", "--shell-completion"):
        from ntp.completion import complete

        return complete(arguments)
    if arguments[0] not in COMMANDS:
        from ntp.config.nearest import suggestion

        print(f"ntp: there is no command '{arguments[0]}'{suggestion(arguments[0], COMMANDS)}", file=sys.stderr)
        return WRONG_REQUEST
    return run(arguments[0], arguments[1:])


def run(command: str, arguments: list[str]) -> int:
    """Compose the command's configuration with Hydra and run it, with every user error as one line."""
    from ntp.config.compose import CONFIG_ERRORS, explain, hydra_main
    from ntp.config.errors import ConfigError, RunFailed, RunStopped

    try:
        hydra_main(command, arguments)
    except ConfigError as error:
        print(f"ntp {command}: {error}", file=sys.stderr)
        return WRONG_REQUEST
    except CONFIG_ERRORS as error:
        print(f"ntp {command}: {explain(error, command, arguments)}", file=sys.stderr)
        return WRONG_REQUEST
    except RunFailed as error:
        print(f"ntp {command}: {error}", file=sys.stderr)
        return FAILED
    except RunStopped as stop:
        print(f"ntp {command}: {stop}", file=sys.stderr)
        return stop.status
    except KeyboardInterrupt:
        print(f"ntp {command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception:
        import traceback

        traceback.print_exc()
        return FAILED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
