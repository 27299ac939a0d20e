"""Stage 8: a study or an experiment as one self-contained HTML page, or Markdown."""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from emoq_plugin.files import atomic_write
from emoq_plugin.options import POSITIONAL

# By suffix; what the page is written as.
FORMS = {".html": "html", ".htm": "html", ".md": "md"}
STDOUT = Path("-")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Options of the report.

    Attributes
    ----------
    directory : Path
        exp/study_<name>, or exp/<tag> with scores.json.
    output : Path, optional
        File .html or .md, - for HTML on standard output; report.html in the directory
        when left out.
    """

    directory: Annotated[Path, POSITIONAL]
    output: Path | None = None


def report(options: ReportOptions) -> None:
    """Read, render, write."""
    output = options.output or options.directory / "report.html"
    form = "html" if output == STDOUT else FORMS.get(output.suffix.lower())
    if form is None:
        raise ValueError(
            f"--output {output}: reports are written as {', '.join(FORMS)}, or to "
            "standard output (-); a browser prints HTML as PDF"
        )

    from emoq_plugin.recipe.report.content import read_content
    from emoq_plugin.recipe.report.page import render_page

    page = render_page(read_content(options.directory), form=form)
    if output == STDOUT:
        sys.stdout.write(page)
        return
    with atomic_write(output) as stream:
        stream.write(page)
    logging.info("%s: %.1f MB", output, len(page.encode()) / 1e6)
