"""The two hashes of the weightzip format, in plain Python: XXH3-64 and BLAKE3.

XXH3 is written from the xxHash algorithm description (seed 0 and the default secret), BLAKE3 from
its paper (unkeyed, 32 bytes of output). Slow but short; check.py compares both with known answers.
"""

from struct import pack, unpack, unpack_from

MASK32 = 2**32 - 1
MASK64 = 2**64 - 1


# --- XXH3-64 ---

P32_1, P32_2, P32_3 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
P64_1, P64_2, P64_3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P64_4, P64_5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
MIX_1, MIX_2 = 0x165667919E3779F9, 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
STRIPE = 64  # bytes that are accumulated at a time, in eight lanes
BLOCK = 16 * STRIPE  # as many stripes as the secret has places for, eight bytes apart
STRIPE_KEYS = [unpack_from("<8Q", SECRET, 8 * place) for place in range(16)]
SCRAMBLE_KEY = unpack_from("<8Q", SECRET, 128)
LAST_STRIPE_KEY = unpack_from("<8Q", SECRET, 121)
MERGE_KEY = unpack_from("<8Q", SECRET, 11)
HIGH_MERGE_KEY = unpack_from("<8Q", SECRET, 117)


def xxh3(data: bytes) -> int:
    """XXH3-64 of the data."""
    size = len(data)
    if size == 0:
        return _xxh64_avalanche(_secret(56) ^ _secret(64))
    if size <= 3:
        return _xxh3_to_3(data)
    if size <= 8:
        return _xxh3_to_8(data)
    if size <= 16:
        return _xxh3_to_16(data)
    if size <= 128:
        return _xxh3_to_128(data)
    if size <= 240:
        return _xxh3_to_240(data)
    return _xxh3_long(data)


def _xxh3_to_3(data: bytes) -> int:
    size = len(data)
    word = data[-1] | size << 8 | data[0] << 16 | data[size // 2] << 24
    low, high = unpack_from("<2I", SECRET)
    return _xxh64_avalanche(word ^ low ^ high)


def _xxh3_to_8(data: bytes) -> int:
    size = len(data)
    word = _little(data[-4:]) | _little(data[:4]) << 32
    word ^= _secret(8) ^ _secret(16)
    word ^= _rotate_left(word, 49) ^ _rotate_left(word, 24)
    word = word * MIX_2 & MASK64
    word ^= (word >> 35) + size
    word = word * MIX_2 & MASK64
    return word ^ word >> 28


def _xxh3_to_16(data: bytes) -> int:
    low = _little(data[:8]) ^ _secret(24) ^ _secret(32)
    high = _little(data[-8:]) ^ _secret(40) ^ _secret(48)
    swapped = int.from_bytes(pack("<Q", low), "big")
    return _avalanche(len(data) + swapped + high + _fold(low * high))


def _xxh3_to_128(data: bytes) -> int:
    """Pairs of 16 bytes from both ends, until they meet."""
    size = len(data)
    total = size * P64_1
    for pair in range((size + 31) // 32):
        total += _mix(data, 16 * pair, 32 * pair)
        total += _mix(data, size - 16 * pair - 16, 32 * pair + 16)
    return _avalanche(total)


def _xxh3_to_240(data: bytes) -> int:
    size = len(data)
    total = size * P64_1
    total += sum(_mix(data, at, at) for at in range(0, 128, 16))
    total = _avalanche(total)
    total += sum(_mix(data, at, at - 128 + 3) for at in range(128, size - 15, 16))
    total += _mix(data, size - 16, 119)
    return _avalanche(total)


def xxh3_128(data: bytes) -> int:
    """XXH3-128, of more than 240 bytes."""
    size = len(data)
    if size <= 240:
        raise ValueError("shorter data have other formulas")
    lanes = _xxh3_lanes(data)
    low = _merge(lanes, MERGE_KEY, size * P64_1)
    return low | _merge(lanes, HIGH_MERGE_KEY, ~(size * P64_2)) << 64


def _xxh3_long(data: bytes) -> int:
    return _merge(_xxh3_lanes(data), MERGE_KEY, len(data) * P64_1)


def _merge(lanes: list[int], keys: tuple[int, ...], start: int) -> int:
    mixed = [lane ^ key for lane, key in zip(lanes, keys)]
    return _avalanche(start + sum(_fold(a * b) for a, b in zip(mixed[::2], mixed[1::2])))


def _xxh3_lanes(data: bytes) -> list[int]:
    size = len(data)
    lanes = [P32_3, P64_1, P64_2, P64_3, P64_4, P32_2, P64_5, P32_1]
    stripes = (size - 1) // STRIPE  # the last bytes, up to a whole stripe, come on their own
    for stripe in range(stripes):
        _accumulate(lanes, unpack_from("<8Q", data, STRIPE * stripe), STRIPE_KEYS[stripe % 16])
        if STRIPE * (stripe + 1) % BLOCK == 0:
            lanes = [_scramble(lane, key) for lane, key in zip(lanes, SCRAMBLE_KEY)]
    _accumulate(lanes, unpack("<8Q", data[-STRIPE:]), LAST_STRIPE_KEY)
    return lanes


def _accumulate(lanes: list[int], stripe: tuple[int, ...], keys: tuple[int, ...]) -> None:
    for i in range(8):
        keyed = stripe[i] ^ keys[i]
        lanes[i ^ 1] = lanes[i ^ 1] + stripe[i] & MASK64
        lanes[i] = lanes[i] + (keyed & MASK32) * (keyed >> 32) & MASK64


def _scramble(lane: int, key: int) -> int:
    return (lane ^ lane >> 47 ^ key) * P32_1 & MASK64


def _mix(data: bytes, at: int, secret_at: int) -> int:
    """A number from 16 bytes of the data and 16 bytes of the secret."""
    low, high = unpack_from("<2Q", data, at)
    return _fold((low ^ _secret(secret_at)) * (high ^ _secret(secret_at + 8)))


def _fold(product: int) -> int:
    """The two halves of 128 bits, combined."""
    return product & MASK64 ^ product >> 64


def _avalanche(word: int) -> int:
    word &= MASK64
    word ^= word >> 37
    word = word * MIX_1 & MASK64
    return word ^ word >> 32


def _xxh64_avalanche(word: int) -> int:
    word ^= word >> 33
    word = word * P64_2 & MASK64
    word ^= word >> 29
    word = word * P64_3 & MASK64
    return word ^ word >> 32


def _rotate_left(word: int, bits: int) -> int:
    return (word << bits | word >> 64 - bits) & MASK64


def _little(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _secret(at: int) -> int:
    return _little(SECRET[at : at + 8])


# --- BLAKE3 ---

IV = unpack(
    ">8I", bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19")
)
CHUNK_START, CHUNK_END, PARENT, ROOT = 1, 2, 4, 8
CHUNK = 1024
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
# The words of the state that are mixed with each other: columns, then diagonals.
MIXED = (
    *((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)),
    *((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)),
)


def _round_orders() -> list[tuple[int, ...]]:
    """Which word of the message each of the seven rounds takes at which place."""
    orders = [tuple(range(16))]
    for _ in range(6):
        orders.append(tuple(orders[-1][place] for place in PERMUTATION))
    return orders


ROUND_ORDERS = _round_orders()


def blake3(data: bytes) -> bytes:
    """The 32-byte BLAKE3 of the data."""
    return pack("<8I", *_subtree(memoryview(data), 0, ROOT))


def _subtree(data: memoryview, chunk_number: int, root: int) -> list[int]:
    """The chaining value of chunks; the left of two subtrees has the largest power of two."""
    chunks_before_last = max(len(data) - 1, 0) // CHUNK
    if chunks_before_last == 0:
        return _chunk(data, chunk_number, root)
    left_chunks = 1 << chunks_before_last.bit_length() - 1
    cut = left_chunks * CHUNK
    left = _subtree(data[:cut], chunk_number, 0)
    right = _subtree(data[cut:], chunk_number + left_chunks, 0)
    return _compress(IV, left + right, 0, 64, PARENT | root)


def _chunk(data: memoryview, number: int, root: int) -> list[int]:
    chaining = list(IV)
    starts = range(0, max(len(data), 1), 64)
    for start in starts:
        block = bytes(data[start : start + 64])
        flags = 0
        if start == 0:
            flags |= CHUNK_START
        if start == starts[-1]:
            flags |= CHUNK_END | root
        words = unpack("<16I", block.ljust(64, b"\0"))
        chaining = _compress(chaining, words, number, len(block), flags)
    return chaining


def _compress(chaining, words, counter: int, size: int, flags: int) -> list[int]:
    state = [*chaining, *IV[:4], counter & MASK32, counter >> 32, size, flags]
    for order in ROUND_ORDERS:
        for step, (a, b, c, d) in enumerate(MIXED):
            w, x, y, z = state[a], state[b], state[c], state[d]
            w = w + x + words[order[2 * step]] & MASK32
            z ^= w
            z = z >> 16 | z << 16 & MASK32
            y = y + z & MASK32
            x ^= y
            x = x >> 12 | x << 20 & MASK32
            w = w + x + words[order[2 * step + 1]] & MASK32
            z ^= w
            z = z >> 8 | z << 24 & MASK32
            y = y + z & MASK32
            x ^= y
            x = x >> 7 | x << 25 & MASK32
            state[a], state[b], state[c], state[d] = w, x, y, z
    return [low ^ high for low, high in zip(state[:8], state[8:])]


# --- Known answers, for the first bytes of 0, 1, ..., 250, 0, 1, ... ---

XXH3_ANSWERS = {
    0: 0x2D06800538D394C2,
    1: 0xC44BDFF4074EECDB,
    3: 0x5F4299FC161C9CBB,
    4: 0x60DAB036A58211F2,
    8: 0x3A1C2D7C85AF88F8,
    9: 0xE9612598145BB9DC,
    16: 0x8355E3A6F61770DB,
    17: 0x9EF341A99DE37328,
    128: 0x85C6174C7FF4C46B,
    129: 0xEC7642B431BA3E5A,
    240: 0x375A384D957FE865,
    241: 0x02E8CD95421C6D02,
    1024: 0xE5D78BAFA45B2AA5,
    1025: 0xE95C42288F28186E,
    2049: 0x6C9600C0E506E2AE,
}
BLAKE3_ANSWERS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    64: "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98",
    65: "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2048: "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    3073: "7124b49501012f81cc7f11ca069ec9226cecb8a2c850cfe644e327d22d3e1cd3",
    8193: "bab6c09cb8ce8cf459261398d2e7aef35700bf488116ceb94a36d0f5f1b7bc3b",
}


def wrong_answers() -> list[str]:
    """What the hashes get wrong: nothing, if all is well."""
    wrong = []
    for size, answer in XXH3_ANSWERS.items():
        if xxh3(_counted(size)) != answer:
            wrong.append(f"XXH3 of {size} bytes")
    for size, answer in BLAKE3_ANSWERS.items():
        if blake3(_counted(size)).hex() != answer:
            wrong.append(f"BLAKE3 of {size} bytes")
    return wrong


def _counted(size: int) -> bytes:
    return bytes(i % 251 for i in range(size))
