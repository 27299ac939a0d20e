"""Studies of seconds, as a place to call the command in."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from emoq_plugin.bin._parser import made, parser_of
from emoq_plugin.recipe.stages.study import StudyOptions, plan_of, study
from tests.recipe.small_study import QUANTIZER, STUDY, make_recipe


@pytest.fixture(scope="session")
def make_place(tmp_path_factory):
    """Return a repository with the recipe `toy` and a call of the command in it."""

    def make(config=STUDY, **recipe):
        root = tmp_path_factory.mktemp("repository")
        here = root / "egs2" / "toy" / "ser2"
        make_recipe(here, "toy", **recipe)
        for name, text in {
            "study/tiny.yaml": config,
            "quantizer/tiny.yaml": QUANTIZER,
            "features/fbank.yaml": "encoder: fbank\n",
            "ser/probe.yaml": "C: 0.1\n",
        }.items():
            path = root / "conf" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        output = here / "exp" / "study_tiny"
        arguments = {
            "--config": root / "conf" / "study" / "tiny.yaml",
            "--root": root,
            "--corpus": "toy",
            "--data_dir": here / "dump" / "raw" / "all",
            "--emotions": here / "data" / "emotions",
            "--folds": here / "data" / "folds",
            "--dumpdir": here / "dump",
            "--output_dir": output,
        }
        common = [str(x) for pair in arguments.items() for x in pair]

        def parse(*options):
            given = [*common, *map(str, options)]
            return made(StudyOptions, parser_of(StudyOptions).parse_args(given))

        return SimpleNamespace(
            root=root,
            here=here,
            output=output,
            config=arguments["--config"],
            parse=parse,
            call=lambda *options: study(parse(*options)),
            study=lambda *options: plan_of(parse("--list", *options)),
        )

    return make


@pytest.fixture(scope="session")
def finished(make_place):
    """Return a place whose jobs are all done and aggregated."""
    place = make_place()
    for job in range(1, 5):
        place.call("--job", job)
    place.call("--aggregate")
    return place


@pytest.fixture(scope="session")
def repository():
    """Return the root of this repository."""
    return Path(__file__).parents[2]
