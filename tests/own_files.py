"""Small files of a user, one kind for each program: what the tests that run whole programs read."""

import numpy as np
import soundfile
from PIL import Image


def table(path, rows=600, columns=("a", "b", "c"), label="fraud", extra=None):
    """Payments whose amounts tell fraud, one in twelve; `extra` maps further columns to values of each row."""
    random = np.random.default_rng(0)
    fraud = np.arange(rows) % 12 == 0
    amounts = random.normal(size=(rows, len(columns))) + 3 * fraud[:, None]
    extra = extra or {}
    lines = [",".join([*columns, *extra, label])]
    for row in range(rows):
        values = [*(f"{amount:.4f}" for amount in amounts[row]), *(str(of[row]) for of in extra.values())]
        lines.append(",".join([*values, str(int(fraud[row]))]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def photographs(folder, number=72, classes="abc", side=8):
    """A folder of noisy patterns for each class."""
    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (len(classes), side, side))
    for index in range(number):
        path = folder / classes[index % len(classes)] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = 0.7 * patterns[index % len(classes)] + 40 + random.normal(0, 30, (side, side))
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(path)


def recordings(folder):
    """Six speakers in TIMIT's layout who hum two vowels."""
    random = np.random.default_rng(0)
    for speaker in range(6):
        for sentence in range(2):
            path = folder / ("TEST" if speaker > 3 else "TRAIN") / f"S{speaker}" / f"SX{sentence}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            parts, lines = [], []
            for place in range(6):
                phone, hertz = (("aa", 300), ("iy", 900), ("h#", 0))[random.integers(3)]
                parts.append(
                    0.2 * np.sin(2 * np.pi * hertz * np.arange(2_400) / 16_000) + random.normal(0, 1e-3, 2_400)
                )
                lines.append(f"{2_400 * place} {2_400 * (place + 1)} {phone}\n")
            soundfile.write(path, np.concatenate(parts), 16_000, subtype="PCM_16")
            path.with_suffix(".PHN").write_text("".join(lines))


def dictionary(path):
    """Words that are said as they are spelled."""
    random = np.random.default_rng(0)
    words = {"".join(random.choice(list("abdeiknost"), random.integers(3, 7))) for _ in range(240)}
    lines = [f"{word}\t{' '.join(letter.upper() for letter in word)}\n" for word in sorted(words)]
    path.write_text("".join(lines))


def text(path):
    """Paragraphs of nine words."""
    random = np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "ran"]
    paragraphs = [" ".join(random.choice(words, 40)) + f" {number}.\n\n" for number in range(60)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(paragraphs))
