"""The code that travels with an exported language model reads and writes text as the program does."""

import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from applications.text import models, preprocess
from data import text
from templates import decoding, recurrent, transformer

SAMPLE = (
    "It's 25 o'clock; they'll say we've  won.\n\nÀ la 2ème fois, naïve café\u00a0— 日本語のテキスト 12³ ¼ Ⅷ.\n"
    "\tif x == y:\n        return  f'{x}'  # they're\n\n\n"
) * 4


@pytest.fixture(scope="module", params=["char", "byte", "bpe"])
def tokenizers(request):
    fitted = text._fit_tokenizer(request.param, 300, [SAMPLE], len(SAMPLE))
    return fitted, preprocess.Tokenizer(fitted.preparation())


BPE = functools.cache(lambda: text._fit_tokenizer("bpe", 300, [SAMPLE], len(SAMPLE)))


@given(st.text(st.sampled_from(SAMPLE + "'stmdrevl \n\t\x1f\u2028"), max_size=60))
@settings(max_examples=300, deadline=None)
def test_words_are_split_and_merged_as_in_training(words):
    fitted = BPE()
    assert preprocess.Tokenizer(fitted.preparation()).encode(words) == fitted.encode(words).tolist()


def test_text_becomes_the_same_tokens(tokenizers):
    fitted, own = tokenizers
    assert own.pieces == fitted.pieces
    assert own.encode(SAMPLE) == fitted.encode(SAMPLE).tolist()


def test_an_unknown_character_is_named():
    own = preprocess.Tokenizer(text._fit_tokenizer("char", 300, ["abc"], 3).preparation())
    with pytest.raises(ValueError, match=r"prompt: character 2: found 'x' \(U\+0078\), expected one of the 3 char"):
        own.encode("ax")


@pytest.mark.parametrize("choice", [(1.0, None, None), (0.5, 3, None), (1.3, None, 0.6), (0, None, None), (2, 4, 0.5)])
def test_tokens_are_drawn_as_the_template_draws_them(choice):
    random = np.random.default_rng(0)
    temperature, top_k, top_p = choice
    sampling = np.array([temperature or 1, top_k or 2**24 if temperature else 1, 1 if top_p is None else top_p])
    for logits in random.normal(0, 3, (200, 12)).astype(np.float32):
        chance = random.random()
        expected = decoding._draw(np, logits[None], np.array([chance]), sampling)[0]
        assert preprocess.draw(logits, chance, temperature, top_k, top_p) == expected


@pytest.mark.parametrize("template", ["transformer", "lstm"])
def test_the_loop_writes_what_the_program_writes(template):
    """Also when the context is full: 40 tokens in a context of 12."""
    tokenizer = text._fit_tokenizer("char", 300, [SAMPLE], len(SAMPLE))
    if template == "transformer":
        network = transformer.decoder(vocabulary=tokenizer.vocabulary, context=12, width=16, depth=2, heads=2)
    else:
        network = recurrent.lstm(
            vocabulary=tokenizer.vocabulary,
            embedding_size=8,
            head="next_token",
            units=(12,),
            mask_value=None,
            output_activation=None,
        )
    model = models.LanguageModel(network, tokenizer, template, 12)
    exported = model.exported()

    class Network:
        preparation = model.preparation
        signature = {"inputs": {tensor.name: {"shape": tensor.shape} for tensor in exported.inputs}}  # noqa: RUF012

        def __call__(self, **inputs):
            arrays = [inputs[tensor.name] for tensor in exported.inputs]
            return {name: np.array(value) for name, value in exported(arrays).items()}

    own = preprocess.Model.__new__(preprocess.Model)
    own.network = Network()
    own.tokenizer = preprocess.Tokenizer(model.preparation["tokenizer"])
    own.stream = preprocess.Window if template == "transformer" else preprocess.Steps
    choice = {"temperature": 1.0, "top_k": None, "top_p": 0.9, "seed": 3}
    for prompt in ("It's", "they'll say we've  won."):
        written = "".join(model.write(prompt, 40, stop=["ab"], **choice))
        assert "".join(own.write(prompt, 40, stop=["ab"], **choice)) == written
    tokens, score = model.most_probable("It", 8)
    (answer,) = own.answers([{"prompt": "It", "tokens": 8, "temperature": 0}])
    assert answer == {"text": tokenizer.decode(tokens), "log_probability": pytest.approx(score, abs=1e-4)}
