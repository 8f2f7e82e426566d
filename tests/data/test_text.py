import functools
import gzip
import hashlib
import json
import random
import subprocess
import sys
import time
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from data import text
from data.text import Corpus, Part, Tokenizer, as_in_text, find_files, load_embedded, load_files, load_for
from tests.bad_input import refusal, write

WORDS = ("the", "of", "and", "to", "in", "is", "you", "that", "it", "was", "for", "on", "are", "statement", "from")


def paragraphs(count: int, seed: int = 0, longest: int = 60) -> list[str]:
    """Different paragraphs of a few lines each."""
    draw = random.Random(seed)
    return [
        f"{number}: " + "".join(draw.choice(WORDS) + draw.choice(["\n", " ", " ", " "]) for _ in range(size)) + "end"
        for number, size in enumerate(draw.choices(range(1, longest), k=count))
    ]


def whole(parts: list[str]) -> str:
    return "".join(f"{part}\n\n" for part in parts)


def blocks(part: Part) -> list[str]:
    stops = [*part.starts[1:], len(part)]
    return [part.tokenizer.decode(part.tokens[start:stop]) for start, stop in zip(part.starts, stops, strict=True)]


def in_order(corpus: Corpus) -> list[str]:
    """All blocks in the order of the text."""
    left = {name: blocks(part) for name, part in corpus.splits.items()}
    count = sum(map(len, left.values()))
    return [left[{4: "test", 9: "validation"}.get(place % 10, "train")].pop(0) for place in range(count)]


message = functools.partial(refusal, load_files)


def same(one: Corpus, other: Corpus) -> None:
    assert one.tokenizer == other.tokenizer
    for name, part in one.splits.items():
        for field in ("tokens", "starts", "characters", "bytes", "unknown"):
            np.testing.assert_array_equal(getattr(part, field), getattr(other.splits[name], field))


@pytest.fixture
def blocks_of_4000(monkeypatch):
    monkeypatch.setattr(text, "BLOCK", 4_000)
    monkeypatch.setattr(text, "LONGEST", 8_000)


@pytest.fixture
def tiny(monkeypatch):
    """Texts count as large from 5,000 characters."""
    monkeypatch.setattr(text, "IN_MEMORY", 5_000)


# Splits


def test_a_small_text_by_hand(tmp_path):
    # 20 paragraphs of 10 characters, with the blank line: a block is a twentieth, one paragraph.
    parts = [f"line {number:03d}" for number in range(20)]
    corpus = load_files([write(tmp_path / "a.txt", whole(parts))], "char")
    assert [part.text() for part in corpus.splits.values()] == [
        whole([part for number, part in enumerate(parts) if number not in (4, 9, 14, 19)]),
        whole(["line 00�", "line 01�"]),
        whole(["line 00�", "line 01�"]),
    ]
    test = corpus.splits["test"]
    np.testing.assert_array_equal(test.starts, [0, 10])
    np.testing.assert_array_equal(test.characters, [10, 10])
    np.testing.assert_array_equal(test.bytes, [10, 10])
    # 4 and 9 are in none of the paragraphs to train on.
    assert b"".join(corpus.tokenizer.pieces).decode() == "\n 01235678eiln\ufffd"
    np.testing.assert_array_equal(test.tokens[:10], [12, 11, 13, 10, 1, 2, 2, 14, 0, 0])
    assert [part.unknown for part in corpus.splits.values()] == [0, 2, 2]
    assert corpus.provenance.rows == 200


def test_blocks_hold_whole_paragraphs_up_to_4000_characters(tmp_path, blocks_of_4000):
    parts = paragraphs(1500)
    corpus = load_files([write(tmp_path / "a.txt", whole(parts))], "char")
    found = in_order(corpus)
    assert "".join(found) == whole(parts)
    following = iter(parts)
    for block, after in zip(found, [*found[1:], ""], strict=True):
        inside = block.removesuffix("\n\n").split("\n\n")
        assert inside == [next(following) for _ in inside]
        assert len(block) <= 4000
        if after:  # the next paragraph didn't fit
            assert len(block) + len(after.split("\n\n")[0]) + 2 > 4000
    assert len(found) > 30


@pytest.mark.parametrize("characters", [400, 3_000, 79_000, 200_000])
def test_each_part_has_blocks_however_short_the_text(tmp_path, characters):
    content = whole(paragraphs(3_000))[:characters]
    corpus = load_files([write(tmp_path / "a.txt", content)], "byte")
    assert all(len(part) >= characters / 40 for part in corpus.splits.values())
    assert sum(len(part.starts) for part in corpus.splits.values()) >= 10
    assert 0.6 < len(corpus.splits["train"]) / characters < 0.9


def test_no_paragraph_is_in_two_parts(tmp_path):
    parts = paragraphs(500, longest=20)
    draw = random.Random(1)
    repeated = [part for one in parts for part in [one, *draw.choices(parts, k=draw.choice([0, 0, 2]))]]
    corpus = load_files([write(tmp_path / "a.txt", whole(repeated))], "byte")
    # What is left are the first occurrences in their order.
    assert "".join(in_order(corpus)) == whole(list(dict.fromkeys(repeated)))
    inside = {name: set(part.text().split("\n\n")) - {""} for name, part in corpus.splits.items()}
    assert sum(map(len, inside.values())) == 500
    assert f"{len(repeated) - 500:,} of {len(repeated):,} paragraphs" in corpus.provenance.understood[1]


def test_repeats_are_found_across_files_and_paragraphs_end_with_their_file(tmp_path):
    parts = paragraphs(60)
    write(tmp_path / "a.txt", "\n\n\n  \n" + "\n\t\n\n".join(parts[:40]))
    write(tmp_path / "b.md", "\n\n".join(parts[20:]) + "   \n \n\n")
    assert "".join(in_order(load_files([tmp_path], "byte"))) == whole(parts)


def test_what_is_blank_and_what_is_indented(tmp_path):
    content = "  indented\n\n\n \t\n    more\n  of it  \n\n\t\nlast\r\rold\r\n\r\nnew\u2028line"
    content += "\n\n" + whole(paragraphs(40))
    corpus = load_files([write(tmp_path / "a.txt", content)], "byte")
    assert "".join(in_order(corpus)).startswith(
        "  indented\n\n    more\n  of it\n\nlast\n\nold\n\nnew\u2028line\n\n0: "
    )


def test_long_paragraphs_are_cut_at_a_line_end_or_a_space_or_anywhere(tmp_path, blocks_of_4000):
    lines = "\n".join("line " * 18 + f"{number:05d}" for number in range(200))  # of 95 characters and their ends
    words = " ".join(f"{number:06d}" for number in range(3_000))
    solid = "".join(map(str, range(4_000)))
    short = "x" * 8_000
    more = paragraphs(200)
    corpus = load_files([write(tmp_path / "a.txt", whole([lines, words, solid, short, *more]))], "byte")
    found = in_order(corpus)
    assert "".join(found) == whole([lines, words, solid, short, *more])
    starts = np.cumsum([0, *map(len, found)])[:-1]
    before = whole([lines]), whole([lines, words]), whole([lines, words, solid]), whole([lines, words, solid, short])
    places = {0, *map(len, before)}
    assert places <= set(starts)  # each begins a block, as it doesn't fit behind the one before
    cut = {start for start in starts if start < len(before[2])} - places
    for start in cut:
        if start < len(before[0]):
            assert whole([lines])[start - 1] == "\n"
        elif start < len(before[1]):
            assert whole([lines, words])[start - 1] == " "
    inside = [len(block) for start, block in zip(starts, found, strict=True) if len(before[1]) < start < len(before[2])]
    assert inside[:-1] == [4_000] * (len(inside) - 1)
    assert whole([short]) in found  # not longer than two blocks: not cut
    assert f"at {len(cut)} places" in " ".join(corpus.provenance.understood)


@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_the_chunks_make_no_difference(tmp_path, monkeypatch, chunk):
    draw = random.Random(0)
    pieces = ["\n", "\n\n", "\r\n", "\r", " ", "\t", "a", "é", "🎉", "x" * 30, "word " * 20, " " * 40, "\n \n"]
    content = "".join(draw.choices(pieces, k=1_500))
    monkeypatch.setattr(text, "BLOCK", 200)
    monkeypatch.setattr(text, "LONGEST", 400)
    files = [write(tmp_path / "a.txt", content), write(tmp_path / "b.txt", content[::-1].encode("utf-16"))]
    for kind in ("byte", "bpe"):
        expected = load_files(files, kind, vocabulary=300)
        with monkeypatch.context() as patch:
            patch.setattr(text, "_CHUNK", chunk)
            same(load_files(files, kind, vocabulary=300), expected)
    # And nothing but white space is lost.
    found = "".join(load_files(files[:1], "byte").splits["train"].text().split())
    assert set(found) == set("".join(content.split()))


# The embedded text


def test_the_embedded_text():
    corpus = load_embedded("char")
    from pydoc_data.topics import topics

    joined = "\n\n".join(topics[key] for key in sorted(topics))
    expected = list(dict.fromkeys(part.strip("\n") for part in joined.split("\n\n") if part.strip()))
    found = "".join(in_order(corpus))
    assert found == whole(expected)
    assert corpus.provenance.sha256 == hashlib.sha256(found.encode()).hexdigest()
    assert corpus.provenance.rows == len(found) > 300_000
    assert sys.version.split()[0] in corpus.provenance.source
    sizes = np.array([len(part) for part in corpus.splits.values()]) / len(found)
    np.testing.assert_allclose(sizes, [0.8, 0.1, 0.1], atol=0.03)
    assert set(corpus.splits["train"].text()) | {"\ufffd"} == set(b"".join(corpus.tokenizer.pieces).decode())
    assert corpus.splits["train"].tokens.dtype == np.uint8
    for part in corpus.splits.values():
        np.testing.assert_array_equal(part.characters, np.diff([*part.starts, len(part)]))
        assert part.bytes.sum() == len(part.text().encode())


def test_the_kinds_of_tokens_hold_the_same_embedded_text():
    corpora = {kind: load_embedded(kind, vocabulary=600) for kind in ("char", "byte", "bpe")}
    for name, part in corpora["char"].splits.items():
        for kind in ("byte", "bpe"):
            other = corpora[kind].splits[name]
            assert other.text() == part.text()
            np.testing.assert_array_equal(other.characters, part.characters)
            np.testing.assert_array_equal(other.bytes, part.bytes)
            assert blocks(other) == blocks(part)
    assert [corpus.tokenizer.vocabulary for corpus in corpora.values()][1:] == [256, 600]
    assert corpora["bpe"].splits["train"].tokens.dtype == np.uint16
    assert len(corpora["bpe"].splits["train"]) < 0.5 * len(corpora["byte"].splits["train"])


# Tokenizers


def random_text(seed: int, size: int = 300) -> str:
    draw = random.Random(seed)
    ranges = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    return "".join(chr(draw.randrange(*draw.choice(ranges))) for _ in range(size))


@pytest.fixture(scope="module")
def bpe() -> Tokenizer:
    return load_embedded("bpe", vocabulary=500).tokenizer


@pytest.mark.parametrize("kind", ["byte", "bpe"])
def test_any_text_comes_back(kind, bpe):
    tokenizer = bpe if kind == "bpe" else Tokenizer.from_config({"kind": "byte"})
    for seed in range(50):
        content = random_text(seed) + "\n\n  if x:\r\n\t" + random_text(-seed, 3)
        tokens = tokenizer.encode(content)
        assert tokens.dtype == np.int32
        assert tokenizer.decode(tokens) == content
        assert b"".join(tokenizer.pieces[token] for token in tokens) == content.encode()
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == ""


def test_bytes_by_hand():
    tokenizer = Tokenizer.from_config({"kind": "byte"})
    np.testing.assert_array_equal(tokenizer.encode("aé"), [97, 0xC3, 0xA9])
    assert tokenizer.decode([97, 0xC3]) == "a\ufffd"
    assert tokenizer.vocabulary == 256


def test_byte_pairs_by_hand(tmp_path):
    # In "ab ab abab" the pair "ab" is the most frequent, then " " with it.
    content = whole([f"{'ab ' * 30}{number:02d}" for number in range(20)])
    tokenizer = load_files([write(tmp_path / "a.txt", content)], "bpe", vocabulary=258).tokenizer
    assert sorted(tokenizer.pieces[:256]) == [bytes([byte]) for byte in range(256)]
    assert tokenizer.pieces[256:] == [b"ab", b" ab"]
    assert [tokenizer.pieces[token] for token in tokenizer.encode("ab ab\nb")] == [b"ab", b" ab", b"\n", b"b"]


def test_a_blank_line_is_the_same_tokens_everywhere(bpe):
    assert b"\n\n" in bpe.pieces
    middle = bpe.encode("one.\n\ntwo").tolist()
    assert middle == bpe.encode("one.\n\n").tolist() + bpe.encode("two").tolist()


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_tokenizers_survive_json(kind, bpe):
    tokenizer = bpe if kind == "bpe" else load_embedded(kind).tokenizer
    other = Tokenizer.from_config(json.loads(json.dumps(tokenizer.to_config())))
    assert other == tokenizer
    content = load_embedded("byte").splits["test"].text()
    np.testing.assert_array_equal(other.encode(content), tokenizer.encode(content))


def test_the_vocabulary_is_that_of_training(tmp_path):
    parts = [f"paragraph {number:03d}" for number in range(20)]  # 4 and 9 are only in those held out
    parts[4] += " ü Ω Ω"
    parts[9] += " ß �"
    parts[0] += " é"
    corpus = load_files([write(tmp_path / "a.txt", whole(parts))], "char")
    letters = b"".join(corpus.tokenizer.pieces).decode()
    assert letters == "".join(sorted(letters))
    assert "é" in letters
    assert not set("üΩß") & set(letters)
    assert corpus.splits["train"].unknown == 0
    assert [corpus.splits[name].unknown for name in ("test", "validation")] == [5, 3]  # U+FFFD is itself
    assert "3 in validation and 5 in test" in corpus.provenance.understood[-1]
    assert corpus.splits["test"].text().startswith("paragraph 00� � � �\n\n")
    assert corpus.splits["test"].bytes[0] == len("paragraph 004 ü Ω Ω\n\n".encode())


def test_merges_are_those_of_training(tmp_path):
    parts = [f"{number:03d} {'ab ' * 20}" for number in range(20)]
    parts[4] = f"004 {'qx ' * 20}"
    corpus = load_files([write(tmp_path / "a.txt", whole(parts))], "bpe", vocabulary=300)
    assert corpus.splits["test"].text().startswith("004 qx qx")
    merged = corpus.tokenizer.pieces[256:]
    assert b" ab" in merged
    assert not [piece for piece in merged if b"q" in piece]


def test_a_prompt_with_an_unknown_character():
    tokenizer = load_embedded("char").tokenizer
    known = tokenizer.encode("the statement\n")
    assert tokenizer.decode(known) == "the statement\n"
    found = refusal(tokenizer.encode, "on 中 off")
    assert found == (
        f"prompt: character 4: found '中' (U+4E2D), expected one of the {tokenizer.vocabulary - 1} characters of the "
        "training text"
    )


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_prompt_with_half_a_surrogate_pair(kind, bpe):
    tokenizer = bpe if kind == "bpe" else load_embedded(kind).tokenizer
    assert refusal(tokenizer.encode, "ab\udc80").startswith("prompt: character 3: found '\\udc80' (U+DC80)")


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_tokenizer_that_was_fitted_elsewhere(tmp_path, tiny, kind):
    given = load_files([write(tmp_path / "a.txt", whole(paragraphs(100)))], kind, vocabulary=300).tokenizer
    content = [f"{part} ü" if place % 2 else f"{part} q" for place, part in enumerate(paragraphs(100, seed=1))]
    file, folder = write(tmp_path / "b.txt", whole(content)), tmp_path / "tokens"
    corpus = load_files([file], given, folder=folder)
    assert corpus.tokenizer is given
    # The blocks are those of any other tokenizer, and the tokens those that it gives for what it knows.
    own = load_files([file], "char")
    known = set(b"".join(given.pieces).decode()) if kind == "char" else set(whole(content))
    unknown = {}
    for name, part in own.splits.items():
        wanted = ["".join(c if c in known else "\ufffd" for c in block) for block in blocks(part)]
        assert blocks(corpus.splits[name]) == wanted
        np.testing.assert_array_equal(corpus.splits[name].tokens, np.concatenate([given.encode(one) for one in wanted]))
        np.testing.assert_array_equal(corpus.splits[name].bytes, part.bytes)
        unknown[name] = corpus.splits[name].unknown
        assert unknown[name] == sum(c not in known for c in part.text())
    assert (min(unknown.values()) > 0) == (kind == "char")
    named = ": 'q' (U+0071), 'ü' (U+00FC)" if kind == "char" else ""
    assert corpus.provenance.understood[-1] == (
        f"{given.vocabulary} tokens of an earlier tokenizer; characters that it lacks, {unknown['train']} in "
        f"training, {unknown['validation']} in validation and {unknown['test']} in test, became U+FFFD{named}"
    )
    # Files of tokens are used again for this tokenizer alone.
    again = load_files([file], Tokenizer.from_config(given.to_config()), folder=folder)
    same(again, corpus)
    assert again.provenance == corpus.provenance
    assert load_files([file], "char", folder=folder).tokenizer == own.tokenizer


def test_the_sample_of_byte_pairs_is_spread_and_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "BPE_SAMPLE", 10_000)
    seen = []
    real = text._sample_step
    monkeypatch.setattr(text, "_sample_step", lambda characters: seen.append(real(characters)) or seen[-1])
    content = whole(paragraphs(800))
    corpus = load_files([write(tmp_path / "a.txt", content)], "bpe", vocabulary=300)
    assert set(seen) == {-(-len(content) // 10_000)}
    assert f"one in {seen[0]} training blocks" in corpus.provenance.understood[-1]
    sample = blocks(corpus.splits["train"])[:: seen[0]]
    assert sum(map(len, sample)) <= 10_000
    expected = text._fit_tokenizer("bpe", 300, iter(sample), 1)
    assert expected.pieces == corpus.tokenizer.pieces


def test_too_few_byte_pairs_are_refused():
    with pytest.raises(ValueError, match="vocabulary is 255, expected at least 256"):
        load_embedded("bpe", vocabulary=255)


def test_text_that_a_model_does_not_know_is_refused(tmp_path, tiny):
    given = load_files([write(tmp_path / "a.txt", whole(paragraphs(100)))], "char").tokenizer
    russian = [f"{part} {'щэяжпривет'[: place % 11]}" for place, part in enumerate(paragraphs(100, seed=1))]
    file = write(tmp_path / "b.txt", whole(russian))
    for load in (load_files, load_for):
        said = refusal(load, [file], given)
        assert said.startswith(f"{file}: found 495 of ")
        assert " characters that the model does not know, 'щ' (U+0449), 'э' (U+044D), " in said
        assert said.endswith(" and 2 more; expected at most 2 %, or a model that was trained on such text")
    assert "pydoc_data.topics: found 89," in refusal(load_embedded, given)
    known = load_embedded("char").tokenizer
    assert (
        load_embedded(known).provenance.understood[0].startswith(f"{known.vocabulary} tokens of an earlier tokenizer")
    )


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ("\n", "\n"),
        ("\ufeffThe  ", "The  "),
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("a \t\n \n\n\nb", "a\n\nb"),
        ("cafe\u0301 \u1112\u1161\u11ab", "café 한"),
        ("\udcff", "\udcff"),
    ],
)
def test_a_prompt_has_the_form_of_texts(given, form):
    assert as_in_text(given) == form


def test_accents_apart_are_composed(tmp_path):
    composed = [f"{part} {'café' * (place % 2)}" for place, part in enumerate(paragraphs(100))]
    apart = [unicodedata.normalize("NFD", part) for part in composed]
    assert apart != composed
    one, other = (load_files([write(tmp_path / f"{len(p[0])}.txt", whole(p))], "char") for p in (composed, apart))
    same(other, one)
    changed = sum(a != b for a, b in zip(apart, composed, strict=True))
    assert f"separate letters and accents were composed (NFC) in {changed} paragraphs" in other.provenance.understood


def test_files_that_are_ignored_are_named(tmp_path):
    write(tmp_path / "a.TXT", whole(paragraphs(30)))
    assert len(load_files([tmp_path], "char").provenance.understood) == 4
    for number in range(9):
        write(tmp_path / f"{number}.pdf", "not read")
    corpus = load_files([tmp_path], "char")
    expected = (
        "9 files were ignored, as their names do not end in .txt, .text, .md, .rst, .tex, .py (or .gz): 0.pdf, 1.pdf, "
    )
    assert corpus.provenance.understood[1].startswith(expected)
    assert corpus.provenance.understood[1].endswith("7.pdf and 1 more")


@pytest.mark.parametrize("blanks", [" ", "\n", " \n", "\t \n x"])
def test_blanks_without_end_are_read_in_time(tmp_path, blanks):
    content = f"begin{blanks * (20_000_000 // len(blanks))}end\n\n".encode()
    began = time.process_time()
    part = load_for([write(tmp_path / "a.txt", content)], Tokenizer.from_config({"kind": "byte"}))
    assert time.process_time() - began < 10
    assert part.text().split()[0] == "begin"


# Determinism


def test_another_process_makes_the_same_tokens():
    code = (
        "import hashlib; from data.text import load_embedded; c = load_embedded('bpe', vocabulary=500); "
        "print(hashlib.sha256(c.splits['train'].tokens.tobytes()).hexdigest())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    expected = load_embedded("bpe", vocabulary=500).splits["train"].tokens
    assert found.strip() == hashlib.sha256(expected.tobytes()).hexdigest()


# Large texts


@pytest.mark.parametrize("kind", ["char", "byte", "bpe"])
def test_a_large_text_has_the_tokens_of_a_small_one(tmp_path, monkeypatch, kind):
    content = whole([*paragraphs(400), *paragraphs(30), "é" * 9_000, "中文 " * 3_000])
    files = [write(tmp_path / "a.txt", content), write(tmp_path / "b.txt.gz", gzip.compress(content[::-1].encode()))]
    small = load_files(files, kind, vocabulary=300)
    assert not isinstance(small.splits["train"].tokens, np.memmap)
    monkeypatch.setattr(text, "IN_MEMORY", 5_000)
    for folder in (tmp_path / "new" / "folder", None):
        large = load_files(files, kind, vocabulary=300, folder=folder)
        assert isinstance(large.splits["train"].tokens, np.memmap)
        same(large, small)
        assert large.provenance == small.provenance
    one = load_for(files, small.tokenizer)
    assert isinstance(one.tokens, np.memmap)
    monkeypatch.undo()
    np.testing.assert_array_equal(one.tokens, load_for(files, small.tokenizer).tokens)


def test_files_of_tokens_are_whole_and_used_again(tmp_path, tiny, monkeypatch):
    file = write(tmp_path / "a.txt", whole(paragraphs(300)))
    folder = tmp_path / "tokens"
    first = load_files([file], "bpe", vocabulary=300, folder=folder)
    names = ["corpus.npz", "test.npy", "train.npy", "validation.npy"]
    assert sorted(path.name for path in folder.iterdir()) == names
    np.testing.assert_array_equal(np.load(folder / "train.npy"), first.splits["train"].tokens)

    def fail(*arguments):
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(text, "_Kept", fail)
        again = load_files([file], "bpe", vocabulary=300, folder=folder)
        same(again, first)
        assert again.provenance == first.provenance
        for settings in ({"vocabulary": 301}, {"vocabulary": 300, "encoding": "latin-1"}):
            with pytest.raises(AssertionError, match="read again"):
                load_files([file], "bpe", folder=folder, **settings)
    file.write_text(whole(paragraphs(300, seed=1)))
    other = load_files([file], "bpe", vocabulary=300, folder=folder)
    assert other.splits["train"].text() != first.splits["train"].text()
    same(load_files([file], "bpe", vocabulary=300), other)


def test_a_run_that_ends_early_leaves_nothing_that_is_taken_for_whole(tmp_path, tiny, monkeypatch):
    file = write(tmp_path / "a.txt", whole(paragraphs(300)))
    folder = tmp_path / "tokens"
    load_files([file], "byte", folder=folder)
    file.write_text(whole(paragraphs(300, seed=1)))
    for method in ("add", "part"):
        with monkeypatch.context() as patch:
            calls = []
            real = getattr(text._Writer, method)

            def sometimes(self, *arguments, calls=calls, real=real):
                calls.append(1)
                if len(calls) == 2:
                    raise OSError("No space left on device")
                return real(self, *arguments)

            patch.setattr(text._Writer, method, sometimes)
            with pytest.raises(OSError, match="No space left"):
                load_files([file], "byte", folder=folder)
        assert not (folder / "corpus.npz").exists()
    same(load_files([file], "byte", folder=folder), load_files([file], "byte"))


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"\x93NUMPY")])
@pytest.mark.parametrize("name", ["train.npy", "corpus.npz"])
def test_missing_or_damaged_files_of_tokens_are_made_again(tmp_path, tiny, name, change):
    file = write(tmp_path / "a.txt", whole(paragraphs(300)))
    load_files([file], "byte", folder=tmp_path / "tokens")
    change(tmp_path / "tokens" / name)
    same(load_files([file], "byte", folder=tmp_path / "tokens"), load_files([file], "byte"))


def test_no_long_line_is_held_whole(tmp_path, tiny):
    file = tmp_path / "a.txt"
    with file.open("w") as stream:
        for number in range(400_000):
            stream.write(f"{number} ")
    tracemalloc.start()
    corpus = load_files([file], "byte", folder=tmp_path / "tokens")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(map(len, corpus.splits.values())) == file.stat().st_size + 1  # and one more line end than spaces
    assert peak < 12e6


@pytest.mark.slow
def test_memory_does_not_grow_with_the_text(tmp_path):
    """A text of 24 MB, large as of 1 MB, in a process of its own."""
    draw = np.random.default_rng(0)
    words = [f"{word}{number}" for number in range(200) for word in WORDS]
    line = " ".join(words)
    with (tmp_path / "a.txt").open("w") as stream:
        for number in range(24_000_000 // 1_000):
            start = int(draw.integers(len(line) - 1_000))
            stream.write(f"{number}{line[start : start + 990]}\n\n")
    code = (
        "import resource, sys; from pathlib import Path; from data import text; text.IN_MEMORY = 10**6; "
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = peak(); "
        "c = text.load_files([Path('a.txt')], 'char', folder=Path('tokens')); "
        "print(peak() - before, len(c.splits['train']))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    grown, tokens = map(int, found.stdout.split())
    assert tokens > 18_000_000
    assert grown * (1 if sys.platform == "darwin" else 1024) < 16e6


# Text to evaluate on


def test_text_for_a_trained_model(tmp_path):
    corpus = load_embedded("char")
    parts = [*paragraphs(300), "Ω"]
    part = load_for([write(tmp_path / "a.txt", whole([*parts, *parts[:40]]))], corpus.tokenizer)
    assert part.text() == whole([*parts[:-1], "�"])
    assert part.tokenizer is corpus.tokenizer
    assert part.unknown == 1
    assert part.characters.sum() == len(whole(parts)) == len(part)
    assert part.bytes.sum() == len(whole(parts)) + 1
    assert max(part.characters) <= text.BLOCK
    assert len(part.starts) > 5
    assert refusal(load_for, [write(tmp_path / "b.txt", "short")], corpus.tokenizer, context=10).endswith(
        "b.txt: found 7 tokens, expected at least 11, for one context"
    )


# Files


def test_files_in_folders(tmp_path):
    chosen = ["a.txt", "b/c.MD", "b/d.rst.gz", "b/e/f.py", "g.tex"]
    for name in [*chosen, ".hidden.txt", ".git/h.txt", "b/.i/j.txt", "k.png", "l", "m.gz", "n.txtx"]:
        write(tmp_path / name, "text")
    write(tmp_path / "empty.txt", "")
    assert find_files([tmp_path]) == [tmp_path / name for name in chosen]
    others = [tmp_path / "l", tmp_path / "k.png"]
    assert find_files([*others, tmp_path / "b"]) == [*others, *(tmp_path / name for name in chosen[1:4])]


@pytest.mark.parametrize(
    ("codec", "mark", "said"),
    [
        ("utf-8", b"", "read as UTF-8"),
        ("utf-8", b"\xef\xbb\xbf", "read as UTF-8 by byte order mark"),
        ("utf-16-le", b"\xff\xfe", "read as UTF-16-LE by byte order mark"),
        ("utf-16-be", b"\xfe\xff", "read as UTF-16-BE by byte order mark"),
        ("utf-32-le", b"\xff\xfe\0\0", "read as UTF-32-LE by byte order mark"),
        ("utf-32-be", b"\0\0\xfe\xff", "read as UTF-32-BE by byte order mark"),
    ],
)
@pytest.mark.parametrize("compress", [False, True])
def test_byte_order_marks(tmp_path, codec, mark, said, compress):
    content = whole(["naïve “so” 🎉", *paragraphs(60)])
    data = mark + content.encode(codec)
    file = write(tmp_path / ("a.txt.gz" if compress else "a.txt"), gzip.compress(data) if compress else data)
    corpus = load_files([file], "byte")
    assert "".join(in_order(corpus)) == content
    assert corpus.provenance.understood[0].endswith(said)
    assert corpus.provenance.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_marks_of_some_files_and_an_encoding_for_all(tmp_path):
    parts = paragraphs(80)
    write(tmp_path / "a.txt", whole(parts[:40]))
    write(tmp_path / "b.txt", whole(parts[40:]).encode("utf-16"))
    corpus = load_files([tmp_path], "byte")
    assert "".join(in_order(corpus)) == whole(parts)
    assert (
        corpus.provenance.understood[0]
        == f"{tmp_path / 'b.txt'} read as UTF-16-LE by byte order mark; the others as UTF-8"
    )
    file = write(tmp_path / "c.txt", whole(["café €", *parts]).encode("cp1252"))
    corpus = load_files([file], "byte", encoding="cp1252")
    assert in_order(corpus)[0].startswith("café €\n\n")
    assert corpus.provenance.understood[0] == "read as cp1252, as set by --encoding"


# Bad input


def test_missing_and_empty(tmp_path):
    assert message([tmp_path / "no.txt"], "char") == (
        f"{tmp_path}/no.txt: found no such file, expected a text file or a folder of them"
    )
    file = write(tmp_path / "empty" / "a.txt", "")
    assert message([file], "char") == f"{file}: found an empty file, expected text"
    assert message([file.parent], "char") == f"{file.parent}: found 1 files that are all empty, expected text"
    (tmp_path / "none").mkdir()
    assert message([tmp_path / "none"], "char") == (
        f"{tmp_path}/none: found no text in this folder, expected files that end in .txt, .text, .md, .rst, .tex, .py "
        "(or .gz)"
    )
    assert message([], "char") == "found no path, expected a text file or a folder of them"
    file = write(tmp_path / "b.txt", " \n\n\t \r\n")
    assert message([file], "char") == f"{file}: found nothing but white space, expected text"
    assert message([file, file], "char") == f"{file}: found it twice among the files, expected each once"


def test_too_short(tmp_path):
    file = write(tmp_path / "a.txt", whole([f"line {number:03d}" for number in range(20)]))
    assert load_files([file], "char", context=19)
    assert message([file], "char", context=20) == (
        f"{file}: found 200 tokens, only 20 of them for validation, expected at least 21, for one context"
    )
    assert "4 tokens, only 0 of them for validation, expected" in refusal(
        load_files, [write(tmp_path / "b.txt", "ab")], "byte"
    )


def test_one_character(tmp_path):
    file = write(tmp_path / "a.txt", "a" * 1_000 + "\n\n" + "aa a\na" * 100)
    assert (
        message([file], "char")
        == f"{file}: found only the character 'a', 1,400 times, expected several different characters"
    )
    file = write(tmp_path / "x.txt", "x")
    assert (
        message([file], "char") == f"{file}: found only the character 'x', once, expected several different characters"
    )


def test_binary(tmp_path):
    file = write(tmp_path / "a.txt", b"a" * 300 + b"\0b")
    assert message([file], "char") == (
        f"{file}: byte 300: found a NUL byte, expected text; is it UTF-16 without a byte order mark (--encoding "
        "utf-16-le), or not text at all?"
    )
    file = write(tmp_path / "b.txt", (b"text\x01\x02" * 100))
    assert message([file], "char") == (
        f"{file}: found 200 control characters in the first 600 bytes, expected text: is it a binary file?"
    )
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0"
    assert "byte 8: found a NUL byte" in message([write(tmp_path / "c.txt", png)], "char")
    # A few, as old files end with, and the colours of terminals, are text.
    old = whole(paragraphs(60)) + "\x1b[1mbold\x1b[0m\f\x1a"
    assert in_order(load_files([write(tmp_path / "d.txt", old)], "byte"))[-1].endswith("\x1b[0m\f\x1a\n\n")


@pytest.mark.parametrize("place", [0, 1_000, 2**20 - 1, 2**20, 2**20 + 77])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("compress", [False, True])
def test_invalid_utf8(tmp_path, place, mark, compress):
    data = bytearray(mark + b"word " * 300_000)
    data[len(mark) + place] = 0xE9
    file = write(tmp_path / "a.txt", gzip.compress(data, 1) if compress else bytes(data))
    assert message([file], "byte") == (
        f"{file}: byte {len(mark) + place:,}: found 0xe9, which isn't UTF-8, expected UTF-8; if the file is in another "
        "encoding, name it, such as --encoding cp1252"
    )


def test_invalid_in_other_encodings(tmp_path):
    file = write(tmp_path / "a.txt", "cut é".encode()[:-1])
    assert "byte 4: found 0xc3, which isn't UTF-8" in message([file], "char")
    file = write(tmp_path / "b.txt", b"some \x81")
    assert "byte 5: found 0x81, which isn't cp1252" in message([file], "char", encoding="cp1252")
    file = write(tmp_path / "c.txt", "even".encode("utf-16") + b"x")
    assert "byte 10: found 0x78, which isn't UTF-16-LE" in message([file], "char")
    file = write(tmp_path / "d.txt", b"+2AA-")
    assert "half of a surrogate pair (U+D800)" in message([file], "char", encoding="utf-7")
    for name in ("klingon", "rot13", "base64", "a\0b"):
        assert message([file], "char", encoding=name) == (
            f"--encoding: found {name!r}, expected one that Python knows, such as utf-8, utf-16 or cp1252"
        )


def test_damaged_gzip(tmp_path):
    data = gzip.compress(whole(paragraphs(2_000)).encode())
    file = write(tmp_path / "a.txt.gz", data[: len(data) // 2])
    assert message([file], "char") == (
        f"{file}: found truncated or damaged gzip data (Compressed file ended before the end-of-stream marker was "
        "reached), expected a complete file"
    )
    damaged = bytearray(data)
    damaged[len(data) // 2] ^= 0xFF
    assert "truncated or damaged gzip data" in refusal(
        load_files, [write(tmp_path / "b.txt.gz", bytes(damaged))], "char"
    )
    file = write(tmp_path / "c.txt.gz", "text")
    assert message([file], "char") == f"{file}: found no gzip data, expected some by its name"


def test_a_file_that_can_not_be_read(tmp_path, monkeypatch):
    file = write(tmp_path / "a.txt", "text")

    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert message([file], "char") == f"{file}: found a file that can't be read (Permission denied), expected text"
