"""The sandbox itself finds what it is for."""

import os
import time

import numpy as np
import pytest

from data.dataset import BadInput


def accept():
    return 1


def refuse():
    raise BadInput("a.csv: found\nnothing")


def fail():
    raise ValueError("no")


def crash():
    os.abort()


def sleep():
    time.sleep(30)


def grow():
    return np.ones(160_000_000)


def test_accepted_and_refused_pass(judge):
    assert judge(accept) == ""
    assert judge(refuse) == r"a.csv: found\nnothing"


@pytest.mark.parametrize("load", [fail, crash, sleep, grow])
def test_all_else_fails(judge, load):
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        judge(load)
