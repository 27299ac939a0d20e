"""The whole page: its first screen, answers and sections, rendered by a template."""

import base64
import hashlib
import json
from datetime import UTC, datetime
from importlib.resources import files as package_files
from typing import Any

from emoq_plugin import __version__
from emoq_plugin.optional import needs
from emoq_plugin.recipe.report import sections
from emoq_plugin.recipe.report.blocks import Fold, Section, Text
from emoq_plugin.recipe.report.citations import METHOD, METHOD_ADDRESS, cite_corpus
from emoq_plugin.recipe.report.content import Content
from emoq_plugin.recipe.report.verdicts import HEADLINE, answer_questions, headline

SYNTHETIC = (
    "SYNTHETIC speech: no human spoke this corpus. The numbers show that the tools "
    "work; they say nothing about human speech."
)

CONTROLS = (
    "Speakers of a test fold are in no other part of that fold; controls (oracle, "
    "random, wrong route, capacity) are never results."
)


def render_page(content: Content, *, form: str = "html") -> str:
    """Write the page.

    Parameters
    ----------
    content : Content
    form : {"html", "md"}, default="html"

    Returns
    -------
    str
        HTML that loads nothing: styles, script and drawings are inside. Its
        content security policy allows only these. Or Markdown, which has the numbers
        of the drawings in tables.
    """
    found = sections.all_sections(content)
    found += [_limits(content), _making(content)]
    group = content.groups[0] if content.groups else None
    answers = answer_questions(content, group) if group else {}
    script = _shipped("report.js")
    return _template(form).render(
        content=content,
        title=title(content),
        sentence=group and headline(content, group, answers[HEADLINE].verdict),
        lead=group and sections.lead_figure(group.main),
        answers=list(answers.values()),
        behind=sections.behind(content) if group else [],
        sections=found,
        references=_references(content),
        method_address=METHOD_ADDRESS,
        style=_shipped("report.css"),
        script=script,
        script_hash=_integrity(script),
        made=datetime.now(UTC).date().isoformat(),
        version=__version__,
    )


def title(content: Content) -> str:
    """Name corpus, encoder and question."""
    group = content.groups[0] if content.groups else None
    about = group.main.metadata if group else {}
    corpus = about.get("corpus") or content.summary.get("corpus")
    parts = [cite_corpus(str(corpus)).partition(":")[0]] if corpus else []
    parts += [f"{about['feature']} features"] if about.get("feature") else []
    where = ", ".join(parts) or content.name
    return f"{where}: does Emo-Q keep emotion that quantization loses?"


def _template(form: str) -> Any:
    with needs("report"):
        from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=form == "html",
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_shipped(f"report.{form}.j2"))


def _shipped(name: str) -> str:
    return (package_files(__package__) / name).read_text(encoding="utf-8")


def _integrity(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _limits(content: Content) -> Section:
    notes = [SYNTHETIC] if content.summary.get("synthetic") else []
    # Quantizers of the same frames share their notes on the encoder.
    notes += dict.fromkeys(
        f"{e.metadata.get('feature')}, {note}"
        for e in content.experiments
        for note in e.metadata.get("leakage") or []
    )
    missing = content.summary.get("missing") or []
    notes += [CONTROLS, *(f"Missing: {x['job']}: {x['why']}" for x in missing)]
    return Section("limits", "Leaks and limits", [Text(notes)])


def _making(content: Content) -> Section:
    summary, sizes = content.summary, []
    for e in content.experiments:
        known = [f"{e.metadata.get(k)} {k[2:]}" for k in ("n_utterances", "n_speakers")]
        known += [f"{len(e.metadata.get(k) or [])} {k}" for k in ("folds", "seeds")]
        sizes.append(f"{e.name}: {', '.join(known)}")
    versions = (summary.get("environment") or {}).items()
    config = json.dumps(
        summary.get("config"), indent=2, ensure_ascii=False, default=str
    )
    blocks = [
        Text([str(summary.get("command"))], code=True),
        Text([*sizes, ", ".join(f"{k} {v}" for k, v in versions)]),
        Text(config.splitlines(), code=True),
    ]
    fold = Fold("Command, versions, configuration", blocks)
    return Section("making", "How it was made", [fold])


def _references(content: Content) -> list[str]:
    known = content.summary.get("corpus")
    corpora = [str(e.metadata.get("corpus") or known) for e in content.experiments]
    return [METHOD, *map(cite_corpus, dict.fromkeys(corpora))]
