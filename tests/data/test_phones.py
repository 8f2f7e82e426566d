import pytest

from data.phones import PHONE_CLASSES, PHONES, SILENCE, TIMIT_TO_39, is_mark, phone_of

# The 61 labels of TIMIT's documentation, by its own groups.
TIMIT = (
    *("b", "d", "g", "p", "t", "k", "dx", "q", "bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "jh", "ch"),
    *("s", "sh", "z", "zh", "f", "th", "v", "dh", "m", "n", "ng", "em", "en", "eng", "nx"),
    *("l", "r", "w", "y", "hh", "hv", "el", "iy", "ih", "eh", "ey", "ae", "aa", "aw", "ay", "ah", "ao", "oy", "ow"),
    *("uh", "uw", "ux", "er", "ax", "ix", "axr", "ax-h", "pau", "epi", "h#"),
)


def test_phones_are_in_order_of_their_classes():
    assert len(PHONES) == len(set(PHONES)) == 39
    assert PHONES[SILENCE] == "sil"
    assert [phone for phones in PHONE_CLASSES.values() for phone in phones] == list(PHONES)
    assert {name: len(phones) for name, phones in PHONE_CLASSES.items()} == {
        **{"vowels": 9, "diphthongs": 5, "semivowels": 4, "nasals": 3, "fricatives": 8, "affricates": 2, "stops": 7},
        "silence": 1,
    }


def test_all_labels_of_timit_fold_to_the_39():
    assert len(TIMIT) == len(set(TIMIT)) == 61
    assert set(TIMIT_TO_39) == {*TIMIT, "sil"}
    assert {TIMIT_TO_39[label] for label in TIMIT} == {*PHONES, None}
    assert all(TIMIT_TO_39[phone] == phone for phone in PHONES)


def test_what_is_folded_is_that_of_lee_and_hon():
    groups = {}
    for label in TIMIT:
        if TIMIT_TO_39[label] != label:
            groups.setdefault(TIMIT_TO_39[label], set()).add(label)
    assert groups == {
        "aa": {"ao"},
        "ah": {"ax", "ax-h"},
        "er": {"axr"},
        "hh": {"hv"},
        "ih": {"ix"},
        "l": {"el"},
        "m": {"em"},
        "n": {"en", "nx"},
        "ng": {"eng"},
        "sh": {"zh"},
        "uw": {"ux"},
        "sil": {"bcl", "dcl", "gcl", "pcl", "tcl", "kcl", "h#", "pau", "epi"},
        None: {"q"},
    }


@pytest.mark.parametrize(
    ("label", "phone"),
    [
        *[("iy", "iy"), ("ax-h", "ah"), ("h#", "sil"), ("H#", "sil"), ("AX-H", "ah"), ("dx", "dx")],
        *[("AH0", "ah"), ("AO1", "aa"), ("ER2", "er"), ("UW1", "uw"), ("aa1", "aa"), ("OY2", "oy")],
        *[("ZH", "sh"), ("HH", "hh"), ("NG", "ng"), ("K", "k"), (" T ", "t")],
        *[("AH0_B", "ah"), ("ah_e", "ah"), ("s_S", "s"), ("SIL_S", "sil"), ("<p:>", "sil"), ("<sil>", "sil")],
        *[("", "sil"), (" ", "sil"), ("sil", "sil"), ("SIL", "sil"), ("sp", "sil")],
    ],
)
def test_labels_as_annotations_write_them(label, phone):
    index = phone_of(label)
    assert index is not None
    assert PHONES[index] == phone


def test_the_glottal_stop_has_no_class():
    assert phone_of("q") is None


@pytest.mark.parametrize("label", ["spn", "K0", "AH3", "AH10", "iy0x", "0", "ɹ", "cat", "-"])
def test_unknown_labels(label):
    with pytest.raises(KeyError):
        phone_of(label)


def test_marks_of_what_is_no_phone():
    marks = ["spn", "SPN_S", "NSN", "noise", "<eps>", "<unk>", "[laugh]", "{B_TRANS}", "AA1,AH0,s", "sil,AH0,a", "oov"]
    assert all(map(is_mark, marks))
    assert not any(map(is_mark, ["K0", "AH3", "ɹ", "cat", "-", "0"]))
