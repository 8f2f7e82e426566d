"""General-purpose compressors, which text models are compared with.

A language model is a compressor, up to the rounding of its arithmetic coder, so its bits per character compare with
those of xz and similar programs that were given the same training text. The strongest of them, prediction by partial
matching (PPMd), is itself a language model over bytes.
"""

import bz2
import lzma
from collections.abc import Sequence

import pyppmd
import zstandard

MOST_BYTES = 20_000_000  # of training text that the compressors are given
BZ2_BLOCK = 900_000  # bytes: bz2 never looks farther back
PPMD_ORDER = 16
PPMD_MEMORY = 1 << 28  # bytes; where they are full, the model forgets everything and starts again


def compressed_bits(training: bytes, blocks: Sequence[bytes]) -> dict[str, int]:
    """The bits that compressors need for test blocks, after they have seen the training text.

    These are the bits of the training text and the blocks together, in order, less those of the training text alone,
    as whole bytes. Unlike a trained model the compressors go on learning from the blocks before. Of a training text
    of more than `MOST_BYTES` bytes the last ones are used; the blocks are not limited. bz2 sorts blocks of 900 kB, each
    by itself, and is given as much of the training text as fits into one with the test blocks.

    Args:
        training: text in UTF-8.
        blocks: texts in UTF-8.

    Returns:
        The bits for all blocks of each compressor at its strongest: xz -9e as bare LZMA2, bzip2 -9, zstd --ultra -22
        with the window around everything and PPMd (Shkarin 2002; variant H, order `PPMD_ORDER`).

    Raises:
        ValueError: if the blocks hold nothing.
    """
    test = b"".join(blocks)
    if not test:
        raise ValueError("blocks: nothing in them")
    training = training[-MOST_BYTES:]
    near = training[max(0, len(training) + len(test) - BZ2_BLOCK) :]
    return {
        name: 8 * (len(compress(known + test)) - len(compress(known)))
        for name, compress, known in (
            ("xz", _xz, training),
            ("bz2", bz2.compress, near),
            ("zstd", _zstd, training),
            ("PPMd", _ppmd, training),
        )
    }


def _xz(text: bytes) -> bytes:
    dictionary = 1 << max(len(text).bit_length(), 16)  # more would only take memory
    chain = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return lzma.compress(text, lzma.FORMAT_RAW, filters=chain)


def _zstd(text: bytes) -> bytes:
    window = min(max(len(text).bit_length(), 16), 27)
    settings = zstandard.ZstdCompressionParameters.from_level(22, window_log=window, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=settings).compress(text)


def _ppmd(text: bytes) -> bytes:
    return pyppmd.compress(text, max_order=PPMD_ORDER, mem_size=PPMD_MEMORY, variant="H")
