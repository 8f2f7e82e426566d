"""General-purpose compressors as baselines of text models.

A language model is a compressor, up to the rounding of its arithmetic coder, so its bits per character are comparable
with those of xz and similar programs that have seen the same training text. The strongest of them, prediction by
partial matching (PPMd), is itself a language model over bytes.
"""

import bz2
import lzma
from collections.abc import Sequence

import pyppmd
import zstandard

MOST_BYTES = 20_000_000  # of training text for the compressors
BZ2_BLOCK = 900_000  # bytes: the reach of bz2
PPMD_ORDER = 16
PPMD_MEMORY = 1 << 28  # bytes; when they are full, the model is reset


def compressed_bits(training: bytes, blocks: Sequence[bytes]) -> dict[str, int]:
    """The bits that compressors need for test blocks after the training text.

    This is the size of the training text and the blocks together minus that of the training text alone, in whole bytes.
    Unlike a trained model, the compressors also learn from earlier test blocks. At most the last `MOST_BYTES` of the
    training text are used. bz2 compresses independent blocks of 900 kB, so it gets as much of the training text as fits
    into one with the test blocks.

    Args:
        training: text in UTF-8.
        blocks: texts in UTF-8.

    Returns:
        The bits for all blocks by compressor, at its strongest setting: xz -9e as raw LZMA2, bzip2 -9, zstd --ultra -22
        with a window for everything, and PPMd (Shkarin 2002; variant H, order `PPMD_ORDER`).

    Raises:
        ValueError: The blocks are empty.
    """
    test = b"".join(blocks)
    if not test:
        raise ValueError("blocks: found none with text, expected some")
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
    dictionary = 1 << max(len(text).bit_length(), 16)  # more would only waste memory
    chain = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": dictionary}]
    return lzma.compress(text, lzma.FORMAT_RAW, filters=chain)


def _zstd(text: bytes) -> bytes:
    window = min(max(len(text).bit_length(), 16), 27)
    settings = zstandard.ZstdCompressionParameters.from_level(22, window_log=window, enable_ldm=True)
    return zstandard.ZstdCompressor(compression_params=settings).compress(text)


def _ppmd(text: bytes) -> bytes:
    return pyppmd.compress(text, max_order=PPMD_ORDER, mem_size=PPMD_MEMORY, variant="H")
