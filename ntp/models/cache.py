"""Keys and values of the tokens read so far, so that generation reads each token once.

Legend: B rows, G key and value heads, T new positions, S positions held, H width of a head.
"""

from torch import Tensor

from ntp.data.example import Attention


class KVCache:
    """The past of a model that writes: pass one object to every ``model(tokens, cache=cache)``.

    The buffers grow by doubling, or are made once when the capacity is known. What is held carries no gradient.

    Args:
        capacity: positions to make room for at first.

    Attributes:
        length: positions read. It moves when a forward is complete, so a forward that failed leaves no trace.
        prompt: how many of them were read as a whole, each seeing all; they can only be forgotten as a whole.
        offset: how many were read before the first position held: those of a source, which a decoder sees in its
            memory instead.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.length = self.prompt = self.offset = 0
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._memories: list[tuple[Tensor, Tensor]] = []

    @property
    def held(self) -> int:
        """S, positions whose keys and values are here."""
        return self.length - self.offset

    def append(self, layer: int, key_BGTH: Tensor, value_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        """Hold the keys and values of the newest positions of one layer.

        Layers come in order, from 0. The length stays as it is until `advance`.

        Args:
            layer: which layer.
            key_BGTH: [B, G, T, H].
            value_BGTH: [B, G, T, H].

        Returns:
            Keys and values of all S + T positions, each [B, G, S + T, H]; views, valid until the next append.

        Raises:
            ValueError: the number of rows differs from that of the positions held.
        """
        end = self.held + key_BGTH.shape[2]
        if layer == len(self._layers):
            self._layers.append((self._buffer(key_BGTH, end), self._buffer(value_BGTH, end)))
        keys, values = self._layers[layer]
        if keys.shape[0] != key_BGTH.shape[0]:
            raise ValueError(f"the cache holds {keys.shape[0]} rows and was given {key_BGTH.shape[0]}")
        if keys.shape[2] < end:
            keys, values = self._grown(keys, end), self._grown(values, end)
            self._layers[layer] = keys, values
        keys[:, :, self.held : end] = key_BGTH.detach()
        values[:, :, self.held : end] = value_BGTH.detach()
        return keys[:, :, :end], values[:, :, :end]

    def remember(self, layer: int, key_BGSH: Tensor, value_BGSH: Tensor) -> None:
        """Hold the keys and values of a source, which one layer of a decoder sees at every step.

        Args:
            layer: which layer; layers come in order, from 0.
            key_BGSH: [B, G, S, H].
            value_BGSH: [B, G, S, H].
        """
        memory = key_BGSH.detach(), value_BGSH.detach()
        if layer == len(self._memories):
            self._memories.append(memory)
        self._memories[layer] = memory

    def memory(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the source, each [B, G, S, H], as given to `remember`."""
        return self._memories[layer]

    def advance(self, positions: int) -> None:
        """Count the appended positions as held: called once, after the last layer."""
        self.length += positions

    def seal(self, unheld: int = 0) -> None:
        """Count what has been read so far as a prompt that was read as a whole: called once, after `advance`.

        Args:
            unheld: positions of the prompt before the first one held: the source of a decoder, but its last.
        """
        self.length += unheld
        self.offset, self.prompt = unheld, self.length

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on, such as rejected guesses of speculative decoding.

        Raises:
            ValueError: the cache is shorter than that, or the cut would fall into a prompt that was read as a whole,
                of which the rest has already seen what would be forgotten.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"a cache of {self.length} positions cannot be cut to {length}")
        if 0 < length < self.prompt:
            raise ValueError(f"a prompt of {self.prompt} positions, read as a whole, cannot be cut to {length}")
        self.length = length
        if not length:
            self.prompt = self.offset = 0

    def _buffer(self, like_BGTH: Tensor, end: int) -> Tensor:
        rows, heads, _, width = like_BGTH.shape
        return like_BGTH.new_empty(rows, heads, max(self.capacity, end), width)

    def _grown(self, held: Tensor, end: int) -> Tensor:
        rows, heads, room, width = held.shape
        grown = held.new_empty(rows, heads, max(2 * room, end), width)
        grown[:, :, : self.held] = held[:, :, : self.held]
        return grown


def check_continues(cache: KVCache, attention: Attention, *rule: Tensor | None) -> None:
    """Check that a forward with a cache goes on from it, or begins it.

    Args:
        cache: of the forward.
        attention: of the forward.
        rule: its order, segments, private and positions.

    Raises:
        ValueError: there is such a rule, or the attention is neither causal nor, into an empty cache, full.
    """
    if any(tensor is not None for tensor in rule):
        raise ValueError("with a cache there are no order, segments, private or positions")
    if attention not in ("causal", "full"):
        raise ValueError(f"with a cache attention is causal or full, not {attention}")
    if attention == "full" and cache.length:
        raise ValueError(f"full attention begins a cache, and this one holds {cache.length} positions; go on causally")
