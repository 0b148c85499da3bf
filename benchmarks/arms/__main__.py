"""``python -m arms <name> <settings as JSON>``: one training loop, at the other end of `harness.laps.Arm`."""

import importlib
import json
import os
import sys

from arms.settings import Settings
from harness.laps import Laps


def main() -> None:
    """Run a loop until its requests end."""
    name, settings = sys.argv[1], Settings(**json.loads(sys.argv[2]))
    # Whatever the loop prints must not get between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.argv = sys.argv[:1]
    laps = Laps(sys.stdin, replies)
    laps.on_device(settings.device)
    importlib.import_module(f"arms.{name}").run(settings, laps)
    raise SystemExit(f"{name}: the loop came to its end")


if __name__ == "__main__":
    main()
