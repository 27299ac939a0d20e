"""Stage 8: a study or an experiment as one self-contained HTML page, or Markdown."""

import argparse
import sys
from pathlib import Path

from emoq_plugin.options import str2bool
from emoq_plugin.files import atomic_write

# By suffix; what the page is written as.
FORMS = {".html": "html", ".htm": "html", ".md": "md"}
STDOUT = Path("-")


def get_parser() -> argparse.ArgumentParser:
    """Make the parser of the command."""
    parser = argparse.ArgumentParser(prog="report", description=__doc__)
    add = parser.add_argument
    add("directory", type=Path, help="exp/study_<name>, or exp/<tag> with scores.json")
    add("--compare", type=Path, help="a second one, shown beside the first")
    add(
        "--output",
        type=Path,
        help="file .html or .md, - for HTML on standard output; default: report.html "
        "in the directory",
    )
    add("--audio", type=str2bool, default=True, help="false leaves the sounds out")
    return parser


def work(options: argparse.Namespace) -> None:
    """Read, render, write."""
    output = options.output or options.directory / "report.html"
    form = "html" if output == STDOUT else FORMS.get(output.suffix.lower())
    if form is None:
        raise ValueError(
            f"--output {output}: reports are written as {', '.join(FORMS)}, or to "
            "standard output (-); a browser prints HTML as PDF"
        )

    import logging

    from emoq_plugin.recipe.report.content import read_content
    from emoq_plugin.recipe.report.files import fill
    from emoq_plugin.recipe.report.page import render_page

    contents = []
    for directory in filter(None, (options.directory, options.compare)):
        content = read_content(directory)
        if not content.complete:
            fill(content.summary, content.path)
        contents.append(content)
    other = contents[1] if contents[1:] else None
    page = render_page(contents[0], other=other, audio=options.audio, form=form)
    if output == STDOUT:
        sys.stdout.write(page)
        return
    with atomic_write(output) as stream:
        stream.write(page)
    logging.info("%s: %.1f MB", output, len(page.encode()) / 1e6)
