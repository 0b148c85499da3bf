"""How many UTF-8 bytes of the text each token stands for.

Bits per byte is exact only if these counts sum to the length of the text. Of a *lossless* tokenizer, one whose tokens
are the bytes of the text and nothing else, a table by id tells. Any other may drop, change or merge characters; there
each token's place in the text tells.
"""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

_KEEPS_ALL = frozenset({"ByteLevel", "Split", "Digits", "Punctuation", "FixedLength", "UnicodeScripts"})


@functools.cache
def byte_alphabet() -> dict[str, int]:
    """The printable character that stands for each byte in a byte-level vocabulary, and that byte.

    GPT-2's ``bytes_to_unicode`` (https://github.com/openai/gpt-2/blob/master/src/encoder.py): printable bytes of
    Latin-1 stand for themselves, the others for U+0100, U+0101 and so on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    alphabet = {chr(byte): byte for byte in printable}
    hidden = (byte for byte in range(256) if byte not in alphabet.values())
    alphabet.update((chr(0x100 + index), byte) for index, byte in enumerate(hidden))
    return alphabet


def is_lossless(spec: dict[str, Any]) -> bool:
    """Whether every text is exactly the bytes of its tokens.

    Args:
        spec: the tokenizer, as ``tokenizer.json`` holds it.
    """
    steps = list(flat_steps(spec["pre_tokenizer"], "pretokenizers"))
    decoders = list(flat_steps(spec["decoder"], "decoders"))
    if spec["normalizer"] is not None or not steps or not decoders:
        return False
    if steps[-1]["type"] != "ByteLevel" or decoders[-1]["type"] != "ByteLevel":
        return False
    if any(one["type"] not in _KEEPS_ALL or one.get("behavior") == "Removed" for one in steps):
        return False
    if any(one.get("add_prefix_space") for one in steps):
        return False
    if any((one["lstrip"] or one["rstrip"]) and not one["special"] for one in spec["added_tokens"]):
        return False
    return _knows_all_bytes(spec["model"], steps)


def flat_steps(node: dict[str, Any] | None, inner: str) -> Iterator[dict[str, Any]]:
    """The steps of a part of a tokenizer, one after the other.

    Args:
        node: the part, as ``tokenizer.json`` holds it.
        inner: under which key its sequences keep their steps.
    """
    if node is None:
        return
    if node["type"] == "Sequence":
        for one in node[inner]:
            yield from flat_steps(one, inner)
    else:
        yield node


def _knows_all_bytes(model: dict[str, Any], steps: list[dict[str, Any]]) -> bool:
    alphabet = byte_alphabet().keys()
    kind = model.get("type", "BPE")
    if kind == "BPE":
        affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix") or model.get("dropout")
        return not affixes and alphabet <= model["vocab"].keys()
    if kind == "Unigram":
        return alphabet <= {piece for piece, _ in model["vocab"]}
    if kind == "WordPiece":
        prefix = model["continuing_subword_prefix"]
        # A prefix that a text can contain makes tokens with two meanings: "##a" would be the text "##a" and an "a".
        if not prefix or set(prefix) <= alphabet:
            return False
        longest = min((one["length"] for one in steps if one["type"] == "FixedLength"), default=np.inf)
        whole_words = 4 * longest <= model["max_input_chars_per_word"]
        return whole_words and {*alphabet, *(prefix + one for one in alphabet)} <= model["vocab"].keys()
    return False


def byte_table(spec: dict[str, Any], vocabulary: dict[str, int], size: int) -> np.ndarray:
    """[size] int64, bytes of text that each id stands for; 0 for special tokens.

    Exact where `is_lossless`. Elsewhere what the token says by itself, without the text it came from.

    Args:
        spec: the tokenizer, as ``tokenizer.json`` holds it.
        vocabulary: every token and its id.
        size: one more than the highest id.
    """
    table = np.zeros(size, dtype=np.int64)
    special = {one["content"]: one["special"] for one in spec["added_tokens"]}
    prefix = spec["model"].get("continuing_subword_prefix") or ""
    byte_level = any(one["type"] == "ByteLevel" for one in flat_steps(spec["decoder"], "decoders"))
    alphabet = byte_alphabet().keys()
    for token, index in vocabulary.items():
        if token in special:
            table[index] = 0 if special[token] else len(token.encode())
            continue
        text = token.removeprefix(prefix) if prefix else token
        if byte_level and alphabet >= set(text):
            table[index] = len(text)
        elif len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
            table[index] = 1  # SentencePiece's way to write a byte
        else:
            table[index] = len(text.replace("▁", " ").encode())
    return table


def bytes_by_place(text: str, ends: np.ndarray) -> np.ndarray:
    """[N] int64, bytes of text that each token stands for; they sum to the length of the text.

    Characters that no token covers, such as dropped whitespace, count for the token that follows them, or for the
    last. Of tokens that share a character, the first has its bytes.

    Args:
        text: what was encoded.
        ends: [N] where in the text each token ends, in characters; N > 0.
    """
    ends = np.maximum.accumulate(ends.astype(np.int64))
    ends[-1] = len(text)
    if not text.isascii():
        points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        widths = 1 + (points >= 0x80).astype(np.int64) + (points >= 0x800) + (points >= 0x10000)
        ends = np.concatenate(([0], np.cumsum(widths)))[ends]
    return np.diff(ends, prepend=0)


def byte_strings(spec: dict[str, Any], vocabulary: dict[str, int], size: int) -> list[bytes]:
    """[size], the bytes of text that each id of a tokenizer that `is_lossless` stands for; none for special tokens.

    Args:
        spec: the tokenizer, as ``tokenizer.json`` holds it.
        vocabulary: every token and its id.
        size: one more than the highest id.
    """
    strings = [b""] * size
    special = {one["content"]: one["special"] for one in spec["added_tokens"]}
    prefix = spec["model"].get("continuing_subword_prefix") or ""
    alphabet = byte_alphabet()
    for token, index in vocabulary.items():
        if token in special:
            strings[index] = b"" if special[token] else token.encode()
        else:
            strings[index] = bytes(alphabet[one] for one in token.removeprefix(prefix) if one in alphabet)
    return strings
