"""What a checkpoint holds beside Lightning's own state, and how older ones are read.

The node ``ntp`` of a checkpoint, version 3:

| key | content |
|---|---|
| ``version`` | of this table |
| ``progress`` | the counters of `ntp.training.metrics.Progress` |
| ``totals`` | for each rank, the sums since the last line of training metrics |
| ``latest`` | the newest value of every metric |
| ``empty_steps`` | steps without a target |
| ``logged_step`` | of the last line of training metrics |
| ``metric_lines`` | lines that ``metrics.jsonl`` had |
| ``validated_step`` | at which the last validation was |
| ``validation_loss`` | of that validation, when it was at this step; else None |
| ``ended`` | unit and amount of the budget where the clock or a callback has ended the training at this step; or None |
| ``data_digest`` | of tokenizer and text |

Lightning's own ``state_dict`` and ``optimizer_states`` are those of one process, whatever devices wrote them: whole
tensors, and in the state of an optimizer each under the number that its parameter has in the optimizer's own groups.
"""

from collections.abc import Callable
from typing import Any

from ntp.config.errors import ConfigError

STATE = "ntp"
VERSION = 3


def upgrade(checkpoint: Any) -> Any:
    """A checkpoint of an older version as this one would have written it.

    Raises:
        ConfigError: a newer ntp wrote it.
    """
    state = checkpoint.get(STATE) if isinstance(checkpoint, dict) else None
    if state is None:  # of another program, or of a part of a run: nothing of ours to upgrade
        return checkpoint
    version = state["version"]
    if version > VERSION:
        raise ConfigError(
            "checkpoint", f"was written by a newer ntp (format {version}; this one reads up to {VERSION}); update ntp"
        )
    for older in range(version, VERSION):
        state |= _UPGRADES[older](checkpoint)
    state["version"] = VERSION
    return checkpoint


def _from_1(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Version 1 kept no sums between two lines of metrics and did not say whether its step was validated."""
    step = checkpoint["global_step"]
    return {
        "totals": [],
        "latest": {},
        "logged_step": step,
        "metric_lines": None,
        "validated_step": step,
        "validation_loss": None,
        "ended": None,
        "data_digest": None,
    }


def _from_2(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Version 2 did not count rows: the module, which knows how many a step has, does it when it reads ``progress``."""
    return {}


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}
