"""`emoq`: its verbs, its version, what it says to a wrong one."""

import subprocess
import sys
from pathlib import Path

import pytest

import emoq_plugin
from emoq_plugin.bin.main import FOR_USERS, main, usage, verbs

ROOT = Path(__file__).parents[2]


def test_verbs_of_users_are_listed_before_those_of_stages():
    assert set(FOR_USERS) < set(verbs())
    _, users, stages = (part.splitlines() for part in usage().split("\n\n"))
    listed = [line.split()[0] for line in users[1:] + stages[1:]]
    assert sorted(listed) == sorted(v.replace("_", "-") for v in verbs())
    assert [name.replace("-", "_") for name in listed[: len(FOR_USERS)]] == [*FOR_USERS]
    # Each has a summary.
    assert all(len(line.split(maxsplit=1)) == 2 for line in users[1:] + stages[1:])


@pytest.mark.parametrize("words", [["import-kmeans"], ["data", "from-csv"], ["learn"]])
@pytest.mark.parametrize("help_first", [False, True])
def test_a_verb_is_known_by_its_documented_name(words, help_first, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["help", *words] if help_first else [*words, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: emoq {'-'.join(words)} ")


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("encod", "did you mean 'encode'? "),
        ("import-kmean", "'import-kmeans'"),
        ("data", "'data-from-csv'"),
    ],
)
def test_an_unknown_verb_gets_a_suggestion_on_stderr_and_status_2(capsys, verb, hint):
    with pytest.raises(SystemExit, match="2"):
        main([verb, "a.wav"])
    out, err = capsys.readouterr()
    assert out == "" and f"unknown verb '{verb}'" in err and hint in err


def test_what_is_like_no_verb_gets_none(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["xyz"])
    assert "did you mean" not in capsys.readouterr().err


def test_completion_knows_verbs_options_and_choices():
    """In a real bash, as a user who presses the tabulator."""
    script = subprocess.run(
        [sys.executable, "-m", "emoq_plugin.bin.main", "completion", "bash"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    pressed = """
    COMP_WORDS=({words}) COMP_CWORD=$(({n} - 1)); _shtab_emoq; echo "${{COMPREPLY[*]}}"
    """
    for words, expected in (
        ("emoq enc", "encode encode-units"),
        ("emoq encode --form", "--format"),
        ("emoq encode --format js", "jsonl"),
        ("emoq import-kmeans --quie", "--quiet"),
    ):
        ask = pressed.format(words=words, n=len(words.split()))
        found = subprocess.run(
            ["bash", "-c", script + ask], capture_output=True, text=True, check=True
        )
        assert set(expected.split()) <= set(found.stdout.split()), words


def test_the_script_at_the_root_runs_from_anywhere(tmp_path):
    (tmp_path / "emoq").symlink_to(ROOT / "emoq")
    done = subprocess.run(
        ["./emoq", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"emoq {emoq_plugin.__version__}\n"
