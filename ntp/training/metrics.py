"""Sums that become metrics only when they are read, and the counters of what a run has consumed."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from ntp.data.example import Batch
from ntp.objectives.base import LossTerms

Number = float | int | Tensor
Gather = Callable[[Any], list[Any]]
"""One object of every rank, in order; on a single process a list of one."""


@dataclass
class Totals:
    """Sums and counts over micro-batches. They stay on the device: reading them (`means`) is what waits for it."""

    sums: dict[str, Number] = field(default_factory=dict)

    def add(self, terms: LossTerms) -> None:
        """Add the terms of one micro-batch."""
        self._add("loss", terms.sum, terms.count)
        self._increase("nats", (terms.sum if terms.nats is None else terms.nats).detach())
        self._increase("bytes", terms.bytes)
        for name, (total, count) in terms.metrics.items():
            self._add(name, total, count)

    def _add(self, name: str, total: Tensor, count: Number) -> None:
        self._increase(f"{name}/sum", total.detach())
        self._increase(f"{name}/count", count)

    def _increase(self, name: str, value: Number) -> None:
        self.sums[name] = self.sums.get(name, 0) + value

    def state(self) -> dict[str, Number]:
        """The sums, for a checkpoint: tensors stay tensors, so that going on rounds as before."""
        return {name: one.detach().cpu() if isinstance(one, Tensor) else one for name, one in self.sums.items()}

    @classmethod
    def sum_of(cls, states: Iterable[Mapping[str, Number]]) -> "Totals":
        """Of several ranks' `state`."""
        totals = cls()
        for state in states:
            for name, value in state.items():
                totals._increase(name, value)
        return totals

    def means(self, gather: Gather) -> dict[str, float]:
        """Token-weighted means over all ranks, and what follows from the loss; empties the totals.

        Returns:
            ``loss`` (what is optimised, per target), the objective's own metrics and, where the loss speaks for
            bytes of text, the likelihood as ``perplexity``, ``bits_per_token`` and ``bits_per_byte``. Nothing without a
            target.
        """
        total: dict[str, float] = {}
        for part in gather({name: float(value) for name, value in self.sums.items()}):
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + value
        self.sums.clear()
        nats, nbytes = total.pop("nats", 0.0), total.pop("bytes", 0.0)
        means = {
            name.removesuffix("/sum"): value / count
            for name, value in total.items()
            if name.endswith("/sum") and (count := total[name.removesuffix("/sum") + "/count"])
        }
        if "loss" in means and nbytes:
            nats_per_token = nats / total["loss/count"]
            means["perplexity"] = math.exp(nats_per_token) if nats_per_token < 700 else math.inf
            means["bits_per_token"] = nats_per_token / math.log(2)
            means["bits_per_byte"] = nats / (nbytes * math.log(2))
        return means


@dataclass
class Progress:
    """What a run has consumed so far, over all ranks.

    Attributes:
        step: optimizer steps.
        rows: that were made into examples and read.
        tokens: positions read, without padding.
        bytes: bytes of text in the rows read.
        targets: targets trained.
        flops: floating-point operations, by the model's formula.
        seconds: since the first step, validation included and exams left out.
    """

    step: int = 0
    rows: int = 0
    tokens: int = 0
    bytes: int = 0
    targets: int = 0
    flops: int = 0
    seconds: float = 0.0

    def metrics(self) -> dict[str, float]:
        """Under their names in ``metrics.jsonl``."""
        return {f"progress/{name}": value for name, value in asdict(self).items()}

    def add(self, consumed: Mapping[str, float]) -> None:
        """Add what one rank consumed."""
        for name, value in consumed.items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Consumed:
    """What this rank has consumed since the ranks last compared notes."""

    rows: int = 0
    tokens: int = 0
    bytes: int = 0
    targets: int = 0
    flops: int = 0

    def add(self, batch: Batch, flops: int) -> None:
        """Add one micro-batch; all numbers are known on the host."""
        self.rows += batch.rows
        self.tokens += batch.read_tokens
        self.bytes += batch.read_bytes
        self.targets += batch.target_count
        self.flops += flops

    def take(self) -> dict[str, int]:
        """The counts, which start again at 0."""
        counts = asdict(self)
        self.rows = self.tokens = self.bytes = self.targets = self.flops = 0
        return counts
