"""Damage to files, drawn with a seed: what disks, downloads, editors and malice do to them."""

import copy
import io
import random
import re
import zlib

import torch

NUMBERS = [0, 1, 255, 256, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
VALUES = """
~ | {} | [] | [[]] | [1, 2] | {a: 1} | "" | '' | "[[[" | ".inf" | "nan" | yes | off | -1 | 0 | 1e999
.inf | -.inf | .nan | 0x7fffffffffffffffffffffff | 0o17 | 1_000 | 1:30:00 | 2001-99-99 | 2001-01-01
!!timestamp x | !!int '' | !!int x | !!float '' | !!bool x | !!binary x | !!null x | !!set {a, b}
!!omap [a: 1] | !!pairs [a: 1] | !!python/object/apply:os.mkdir [sprung] | !!python/name:os.system
&a [*a] | &a {*a : 1} | *a | << | <<: {lr: 1} | = | ? | - | : | @ | ` | % | %YAML 9.9 | --- | ...
[a, b | {a: b | "a | 'a | |- | > | # | !!str | !x y | é | 路 | None | True | null | inf | 3.7 | 1e-3
"""
VALUES = [value.strip() for line in VALUES.strip().splitlines() for value in line.split(" | ")]
VALUES += ["9" * 5000, "[" * 1000, "{a: " * 1000, "- " * 1000, "a" * 10_000, "\0", "\x85", "\ufeff"]
STRANGE = [None, True, -1, 0, 1, 2, 3, 16, 64, 10**6, 10**18, 10**30, 0.5, float("nan"), "", "same"]
STRANGE += ["valid", b"x", (), (1,), [], [[]], {}, {"a": 1}, torch.ones(()), torch.ones(2, 3)]
STRANGE += [torch.ones(1).expand(10**12), torch.ones(1, dtype=torch.complex64), torch.tensor([])]
STRANGE += [float("inf"), torch.eye(2).to_sparse(), torch.empty(3, device="meta"), set(), *VALUES]


def damage(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A file with one to four random changes: bits, bytes, numbers, and chunks of other files."""
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        chance.choice(DAMAGES)(data, others, chance)
    return bytes(data)


def _chunk(data: bytes, chance: random.Random) -> slice:
    """A place in a file; half of them are short."""
    start = chance.randrange(len(data) + 1)
    size = chance.choice([1, 2, 4, 8, 16, len(data)])
    return slice(start, start + chance.randrange(size + 1))


def _flip(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _number(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    size = chance.choice([1, 1, 2, 4, 8])
    start = chance.randrange(max(len(data) - size, 0) + 1)
    number = chance.choice([*NUMBERS, chance.randrange(256)]) % 256**size
    data[start : start + size] = number.to_bytes(size, chance.choice(["little", "big"]))


def _cut(data: bytearray, _: list[bytes], chance: random.Random) -> None:
    del data[chance.randrange(len(data) + 1) :]


def _replace(data: bytearray, others: list[bytes], chance: random.Random) -> None:
    """A chunk becomes nothing, zeros, itself twice, random, or a chunk of another file."""
    place, other = _chunk(data, chance), chance.choice(others)
    old, noise = data[place], chance.randbytes(chance.choice([1, 4, 64]))
    kinds = b"", bytes(len(old)), old * 2, noise, old + noise, other[_chunk(other, chance)]
    data[place] = chance.choice(kinds)


DAMAGES = _flip, _flip, _number, _cut, _replace, _replace, _replace, _replace


def edit(content: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A text with some of its values replaced by those that parsers trip over; or as `damage`."""
    if chance.random() < 0.3:
        return damage(content, others, chance)
    text = content.decode()
    for _ in range(chance.choice([1, 1, 2, 3])):
        words = list(re.finditer(r"[\w.$/-]+|\[[^\]]*\]|\n", text))
        if words:
            word = chance.choice(words)
            text = text[: word.start()] + chance.choice(VALUES) + text[word.end() :]
    return text.encode()


def mend_png(content: bytes) -> bytes:
    """A damaged PNG with right checksums, so that a decoder sees the damage; others as they are."""
    if not content.startswith(b"\x89PNG"):
        return content
    data, start = bytearray(content), 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4])
        if end + 4 > len(data):
            break
        data[end : end + 4] = zlib.crc32(data[start + 4 : end]).to_bytes(4)
        start = end + 4
    return bytes(data)


def replace(content: bytes, _: list[bytes], chance: random.Random) -> bytes:
    """A whole file with other values somewhere in it: the damage that only malice does."""
    tree = torch.load(io.BytesIO(content), weights_only=True)
    for _ in range(chance.choice([1, 1, 2, 4])):
        part = tree
        while True:
            keys = range(len(part)) if isinstance(part, list) else list(part)
            key = chance.choice(keys)
            if not isinstance(part[key], dict | list) or not part[key] or chance.random() < 0.2:
                break
            part = part[key]
        if isinstance(part, dict) and chance.random() < 0.2:
            del part[key]
        elif chance.random() < 0.3 and isinstance(part[key], tuple):
            part[key] = (*part[key][1:], chance.choice(STRANGE))
        else:
            part[key] = copy.deepcopy(chance.choice(STRANGE))  # it may be changed next
        if not tree:
            break
    data = io.BytesIO()
    torch.save(tree, data)
    return data.getvalue()
