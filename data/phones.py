"""The 39 phone classes in which TIMIT is usually scored, and their spellings in annotations.

Paper: Lee and Hon, *Speaker-Independent Phone Recognition Using Hidden Markov Models*, IEEE Transactions on Acoustics,
Speech, and Signal Processing 37 (11), 1989, table I. The 61 labels of TIMIT are those of its PHONCODE.DOC (Garofolo et
al., *DARPA TIMIT Acoustic-Phonetic Continuous Speech Corpus*, NISTIR 4930, 1993).
"""

import re
from collections.abc import Mapping

PHONE_CLASSES: Mapping[str, tuple[str, ...]] = {
    "vowels": ("iy", "ih", "eh", "ae", "ah", "uw", "uh", "aa", "er"),
    "diphthongs": ("ey", "ay", "oy", "aw", "ow"),
    "semivowels": ("l", "r", "y", "w"),
    "nasals": ("m", "n", "ng"),
    "fricatives": ("v", "f", "dh", "th", "z", "s", "sh", "hh"),
    "affricates": ("jh", "ch"),
    "stops": ("b", "p", "d", "dx", "t", "g", "k"),
    "silence": ("sil",),
}
PHONES: tuple[str, ...] = tuple(phone for phones in PHONE_CLASSES.values() for phone in phones)
SILENCE = PHONES.index("sil")

_FOLDED = {
    "aa": ("ao",),
    "ah": ("ax", "ax-h"),
    "er": ("axr",),
    "hh": ("hv",),
    "ih": ("ix",),
    "l": ("el",),
    "m": ("em",),
    "n": ("en", "nx"),
    "ng": ("eng",),
    "sh": ("zh",),
    "uw": ("ux",),
    "sil": ("bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "h#", "pau", "epi"),
}
# "sil" is the only one of the 39 that isn't a label of TIMIT.
TIMIT_TO_39: Mapping[str, str | None] = {
    **{phone: phone for phone in PHONES},
    **{label: phone for phone, labels in _FOLDED.items() for label in labels},
    "q": None,
}
IGNORED = -1  # the class of frames that are neither learnt nor scored

# A pause in the spelling of forced aligners, Praat and Munich's web services.
_PAUSES = ("", "sp", "<sil>", "[sil]", "(sil)", "<p>", "<p:>", "silence", "pause")
# Labels that aren't phones: speech that couldn't be transcribed, noise, and anything in brackets.
# L2-ARCTIC writes "intended phone,spoken phone,kind of error".
_MARKS = re.compile(
    r"spn|nsn|vocnoise|noise|laugh|lau|breath|cough|music|oov|unk|unknown|garbage|err|iver|xxx?|\?+"
    r"|.*,.*|<.*>|\[.*\]|\{.*\}|\(.*\)",
    re.DOTALL,
)


def phone_of(label: str) -> int | None:
    """The class of a label: its index in `PHONES`, or None for the glottal stop "q", which isn't scored.

    Labels are TIMIT's 61, the 39 classes themselves, and ARPAbet in upper or lower case, with or without a stress digit
    ("AH0") or Kaldi's mark of the position in the word ("AH0_B"). "sil", "sp" and an empty label are silence.

    Raises:
        KeyError: The label is unknown.
    """
    name = _plain(label)
    if name in _PAUSES:
        return SILENCE
    phone = TIMIT_TO_39[re.sub(r"^([aeiou][a-z])[012]$", r"\1", name)]
    return None if phone is None else PHONES.index(phone)


def is_mark(label: str) -> bool:
    """Whether a label is known to stand for something other than a phone, such as "spn" or "<noise>"."""
    return _MARKS.fullmatch(_plain(label)) is not None


def _plain(label: str) -> str:
    return re.sub(r"_[bies]$", "", label.strip().lower())
