"""The code that travels with an exported network pronounces words as the program does."""

import keras
import numpy as np
import pytest

from applications.pronounce import models, preprocess
from data.pronunciation import Coder
from templates import decoding, recurrent, transformer

LETTERS = {"NFC": "'-abcdeéß각", "NFD": "'-abcde\u0301\u1100\u1161\u11a8"}
PHONES = ("B", "K", "D", "EH", "S")
LONGEST = 9
WORDS = ["a", "ABC", "dé", "de\u0301", "É", "a’b", "c–d", "abcdeabcd", "각", "ß", "ab-ab'ab"]
STRANGE = ["", "  ", "axbyx", "a b", "abcdeabcda", "ÅÅ", "a\u0300", "zyxwvutsrq", "\ud800", "1"]


def pronouncer(template, form="NFC"):
    keras.utils.set_random_seed(1)
    coder = Coder(LETTERS[form], PHONES, form)
    sizes = {"source_vocabulary": coder.source_vocabulary, "target_vocabulary": coder.target_vocabulary}
    if template == "transformer":
        contexts = {"source_context": LONGEST, "target_context": LONGEST}
        network = transformer.encoder_decoder(**sizes, **contexts, width=8, depth=1, heads=2)
    else:
        network = recurrent.lstm_encoder_decoder(**sizes, embedding_size=4, units=6)
    for weight in network.trainable_variables:
        weight.assign((3 if template == "transformer" else 12) * weight.value)  # surer than an untrained network
    return models.Pronouncer(network, coder, template, LONGEST, stress=False)


@pytest.fixture
def standing_in(monkeypatch):
    """Make the exported model of a pronouncer, whose network Keras runs."""

    class Network:
        def __init__(self, model):
            self.preparation = model.preparation | {"best": 3, "beams": 8}
            self.network = model.exported()

        def __call__(self, **inputs):
            return {name: np.array(value) for name, value in self.network.predict_on_batch(inputs).items()}

    class Uncompiled:
        def __init__(self, function):
            self.function = function

        def predict_on_batch(self, inputs):
            return tuple(keras.ops.convert_to_numpy(part) for part in self.function(*inputs))

    monkeypatch.setattr(decoding, "_Compiled", Uncompiled)
    monkeypatch.setattr(preprocess, "Network", Network)
    return preprocess.Model


@pytest.mark.parametrize("template", ["transformer", "lstm"])
def test_beam_search_finds_what_the_program_says(template, standing_in):
    own = pronouncer(template)
    model = standing_in(own)
    words = ["ABC", "de\u0301", "a’b", "cab-dad"]
    for beams, best in ((1, 1), (4, 2)):
        for said, found in zip(own.say(words, beams), model.answers(words, best=best, beams=beams), strict=True):
            assert [tuple(one["phones"]) for one in found] == [one.phones for one in said[:best]]
            np.testing.assert_allclose(
                [one["probability"] for one in found], [one.probability for one in said[:best]], atol=1e-6
            )
    assert len({tuple(found[0]["phones"]) for found in model.answers(words)}) > 1
    assert [len(found) for found in model.answers(words)] == [3] * len(words)
    with pytest.raises(ValueError, match="beams: found 2, expected at least the 3 of best"):
        model.answers(["a"], beams=2)


def test_more_beams_than_targets(standing_in):
    own = pronouncer("transformer")
    own = models.Pronouncer(own.model, own.coder, own.template, 2, stress=False)  # one phone at most
    (found,), (said,) = standing_in(own).answers(["ab"], best=8), own.say(["ab"], 8)
    assert [tuple(one["phones"]) for one in found] == [one.phones for one in said]
    assert [one["probability"] for one in found][-2:] == [0.0, 0.0]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_words_become_the_same_letters(form, standing_in):
    own = pronouncer("lstm", form)
    model = standing_in(own)
    for word in WORDS:
        if own.problem(word):
            assert (form, word) == ("NFD", "ß")
        else:
            (expected,) = own.coder.spellings([word])
            np.testing.assert_array_equal(model.inputs(word), [[*expected, *[0] * (LONGEST - len(expected))]])


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_what_can_not_be_read_is_said_as_by_the_program(form, standing_in):
    own = pronouncer("lstm", form)
    model = standing_in(own)
    for word in [*WORDS, *STRANGE]:
        assert model.problem(word) == own.problem(word)
    for word in STRANGE:
        assert own.problem(word)
        with pytest.raises(ValueError, match="found") as raised:
            model.answers(["a", word])
        assert "\n" not in str(raised.value)
