"""Plain values on their way between tester and solver: what is decoded holds no code of the other side's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

MESSAGE_BYTES = 1 << 20
"""A longer message is no answer."""


class Unreadable(Exception):
    """The other side has gone, or what it sends is no message."""


class Opaque:
    """Stands for a value that is not plain; equal to nothing but itself."""


def send(descriptor: int, message: Any) -> None:
    """Write a message.

    Raises:
        Unreadable: it is too long, or nobody reads.
    """
    content = json.dumps(message).encode("ascii")
    if len(content) > MESSAGE_BYTES:
        raise Unreadable("too long")
    content = len(content).to_bytes(4, "big") + content
    try:
        while content:
            content = content[os.write(descriptor, content) :]
    except OSError as error:
        raise Unreadable("gone") from error


def receive(descriptor: int) -> Any:
    """Read a message.

    Raises:
        Unreadable: there is none.
    """
    size = int.from_bytes(_read(descriptor, 4), "big")
    if size > MESSAGE_BYTES:
        raise Unreadable("too long")
    try:
        return json.loads(_read(descriptor, size))
    except (ValueError, RecursionError) as error:
        raise Unreadable("no message") from error


def _read(descriptor: int, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = os.read(descriptor, size - len(content))
        if not piece:
            raise Unreadable("gone")
        content += piece
    return content


def encode(value: Any) -> Any:
    """As JSON. Of a subclass remains its base class; an iterator is run to its end."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return {"int": hex(value)}
    if isinstance(value, float):
        return {"float": float.hex(value)}
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, bytes | bytearray):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(one)] for key, one in value.items()]}
    for name, kind in _SEQUENCES.items():
        if isinstance(value, kind):
            return {name: [encode(one) for one in value]}
    return {"opaque": None}


_SEQUENCES: dict[str, Any] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "iterator": Iterator,
}


def decode(plain: Any) -> Any:
    """What `encode` made.

    Raises:
        ValueError, TypeError, RecursionError: it is something else.
    """
    if plain is None or isinstance(plain, bool | str):
        return plain
    if not isinstance(plain, dict) or len(plain) != 1:
        raise ValueError("not a value")
    [(name, content)] = plain.items()
    if name == "int":
        return int(content, 16)
    if name == "float":
        return float.fromhex(content)
    if name == "complex":
        return complex(*map(float.fromhex, content))
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "range":
        return range(*content)
    if name == "dict":
        return {decode(key): decode(one) for key, one in content}
    if name == "opaque":
        return Opaque()
    if name == "iterator":
        return iter([decode(one) for one in content])
    if name in _SEQUENCES:
        return _SEQUENCES[name](decode(one) for one in content)
    raise ValueError("not a value")
