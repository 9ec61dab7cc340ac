"""Numbers on the command line: what is read, and what is refused in which words."""

from __future__ import annotations

import argparse

import pytest

from handos_ros.cli import values
from handos_ros.cli.main import main


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (values.positive, "1", 1),
        (values.count, "0", 0),
        (values.amount, "0.5", 0.5),
        (values.amount, "1e-9", 1e-9),
        (values.fraction, "0", 0),
        (values.fraction, "1", 1),
        (values.size, "640x480", (640, 480)),
        (values.size, "640X480", (640, 480)),
    ],
)
def test_what_is_read(kind, text: str, value: object) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        (values.positive, "0", "0 is less than 1"),
        (values.positive, "1.5", "'1.5' is no whole number"),
        (values.count, "-1", "-1 is less than 0"),
        (values.count, "", "'' is no whole number"),
        (values.amount, "0", "0 is not above 0"),
        (values.amount, "nan", "nan is not above 0"),
        (values.amount, "soon", "'soon' is no number"),
        (values.fraction, "1.01", "1.01 is not between 0 and 1"),
        (values.fraction, "nan", "nan is not between 0 and 1"),
        (values.fraction, "half", "'half' is no number"),
        (values.size, "640", "'640' is no size such as 1280x720"),
        (values.size, "0x480", "'0x480' is no size"),
        (values.size, "²x480", "'²x480' is no size"),
    ],
)
def test_what_is_refused(kind, text: str, words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{words}"):
        kind(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train x.yaml -o y --minutes 0", "argument --minutes: 0 is not above 0"),
        ("train x.yaml -o y --workers -1", "argument --workers: -1 is less than 0"),
        ("image x.png -o y --min-score often", "argument --min-score: 'often' is no number"),
        ("bench --warm-up -3", "argument --warm-up: -3 is less than 0"),
    ],
)
def test_the_option_is_named(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(line.split())
    assert words in capsys.readouterr().err
