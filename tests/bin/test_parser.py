"""Parsers made from dataclasses: names, types, defaults and help are said once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pytest

from emoq_plugin.bin._parser import command, made, parser_of
from emoq_plugin.options import POSITIONAL, REPEATED, SWITCH, Count


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where.

    Attributes
    ----------
    data_dir : Path
        Directory of the data.
    """

    data_dir: Path


@dataclass(frozen=True, kw_only=True)
class Wrong:
    """A value of two letters."""

    text: str

    @classmethod
    def parse(cls, text: str) -> "Wrong":
        """Read it."""
        if len(text) != 2:
            raise ValueError(f"'{text}', expected two letters")
        return cls(text=text)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Options.

    Attributes
    ----------
    wav
        File to cut; 100% of it
        is read.
    place
        Nested.
    parts, words
        Of speech.
    nj : int
        Threads.
    audio
        Whether sound is kept.
    quick
        Leave checks out.
    train_on
        What is learned from.
    output
        Absent by default.

    Examples
    --------
    nj
        No help.
    """

    wav: Annotated[Path, POSITIONAL]
    place: Place
    parts: tuple[Literal["train", "test"], ...] = ("test",)
    words: tuple[Wrong, ...] = ()
    nj: Count = 1
    audio: bool = True
    quick: Annotated[bool, SWITCH] = False
    train_on: Literal["train", "all"] = "train"
    output: Path | None = None


def cut(*arguments: str) -> Cut:
    return made(Cut, parser_of(Cut).parse_args(["a.wav", "--data_dir=d", *arguments]))


def test_what_is_left_out_is_the_default_of_the_field():
    assert cut() == Cut(wav=Path("a.wav"), place=Place(data_dir=Path("d")))


def test_values_have_the_types_of_the_fields():
    arguments = "--parts train test --words ab cd --nj 3 --audio false --quick"
    found = cut(*arguments.split(), "--output=o")
    assert found == Cut(
        wav=Path("a.wav"),
        place=Place(data_dir=Path("d")),
        parts=("train", "test"),
        words=(Wrong(text="ab"), Wrong(text="cd")),
        nj=3,
        audio=False,
        quick=True,
        output=Path("o"),
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nj=0"], "'0', expected a whole number of at least 1"),
        (["--audio=yes"], "'yes' is neither true nor false"),
        (["--train_on=most"], "invalid choice: 'most'"),
        (["--words", "abc"], "--words: 'abc', expected two letters"),
    ],
)
def test_a_wrong_value_says_what_was_expected(arguments, said, capsys):
    with pytest.raises(SystemExit):
        cut(*arguments)
    assert said in capsys.readouterr().err


def test_what_has_no_default_is_required(capsys):
    with pytest.raises(SystemExit):
        parser_of(Cut).parse_args([])
    assert "wav, --data_dir" in capsys.readouterr().err


def test_help_is_the_docstring_with_defaults():
    text = " ".join(parser_of(Cut).format_help().split())
    for said in (
        "--data_dir DATA_DIR directory of the data",
        "wav file to cut; 100% of it is read",
        "of speech; default: test",
        "threads; default: 1",
        "whether sound is kept; default: true",
        "{train,all} what is learned from; default: train",
        "--quick leave checks out",
        "absent by default",
    ):
        assert said in text
    assert "None" not in text and "No help" not in text


def test_a_command_has_the_name_of_its_work(capsys):
    calls = []

    def trim(options: Place) -> None:
        calls.append(options)

    main = command(Place, trim, "Trim.")
    main(["--data_dir", "d"])
    assert calls == [Place(data_dir=Path("d"))]
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.startswith("usage: emoq trim")


def test_values_that_are_given_again_are_added_where_that_is_said():
    @dataclass(frozen=True, kw_only=True)
    class Renamed:
        """Options.

        Attributes
        ----------
        map
            Pairs.
        speeds
            Numbers.
        """

        map: Annotated[tuple[str, ...], REPEATED] = ()
        speeds: tuple[float, ...] = ()

    def read(*words):
        return made(Renamed, parser_of(Renamed).parse_args(words))

    assert read() == Renamed()
    assert read("--map", "a=b", "--map", "c=d", "e=f").map == ("a=b", "c=d", "e=f")
    assert read("--speeds", "1", "--speeds", "2", "3").speeds == (2.0, 3.0)
    assert read("--speeds").speeds == ()  # a list of a shell that is empty
