"""Keys and values of the tokens read so far, so that generation reads each token once.

Legend: B rows, G key and value heads, T new positions, S positions held, H width of a head.
"""

from torch import Tensor


class KVCache:
    """The past of a causal model: pass one object to every ``model(tokens, cache=cache)``.

    The buffers grow by doubling, or are made once when the capacity is known. What is held carries no gradient.

    Args:
        capacity: positions to make room for at first.

    Attributes:
        length: positions held. It moves when a forward is complete, so a forward that failed leaves no trace.
    """

    def __init__(self, capacity: int = 64) -> None:
        self.capacity = capacity
        self.length = 0
        self._layers: list[tuple[Tensor, Tensor]] = []

    def append(self, layer: int, key_BGTH: Tensor, value_BGTH: Tensor) -> tuple[Tensor, Tensor]:
        """Hold the keys and values of the newest positions of one layer.

        Layers come in order, from 0. The length stays as it is until `advance`.

        Args:
            layer: which layer.
            key_BGTH: [B, G, T, H].
            value_BGTH: [B, G, T, H].

        Returns:
            Keys and values of all S = length + T positions, each [B, G, S, H]; views, valid until the next append.

        Raises:
            ValueError: the number of rows differs from that of the positions held.
        """
        end = self.length + key_BGTH.shape[2]
        if layer == len(self._layers):
            self._layers.append((self._buffer(key_BGTH, end), self._buffer(value_BGTH, end)))
        keys, values = self._layers[layer]
        if keys.shape[0] != key_BGTH.shape[0]:
            raise ValueError(f"the cache holds {keys.shape[0]} rows and was given {key_BGTH.shape[0]}")
        if keys.shape[2] < end:
            keys, values = self._grown(keys, end), self._grown(values, end)
            self._layers[layer] = keys, values
        keys[:, :, self.length : end] = key_BGTH.detach()
        values[:, :, self.length : end] = value_BGTH.detach()
        return keys[:, :, :end], values[:, :, :end]

    def advance(self, positions: int) -> None:
        """Count the appended positions as held: called once, after the last layer."""
        self.length += positions

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on, such as rejected guesses of speculative decoding.

        Raises:
            ValueError: the cache is shorter than that.
        """
        if not 0 <= length <= self.length:
            raise ValueError(f"a cache of {self.length} positions cannot be cut to {length}")
        self.length = length

    def _buffer(self, like_BGTH: Tensor, end: int) -> Tensor:
        rows, heads, _, width = like_BGTH.shape
        return like_BGTH.new_empty(rows, heads, max(self.capacity, end), width)

    def _grown(self, held: Tensor, end: int) -> Tensor:
        rows, heads, room, width = held.shape
        grown = held.new_empty(rows, heads, max(2 * room, end), width)
        grown[:, :, : self.length] = held[:, :, : self.length]
        return grown
