"""The whole page: sections put together and rendered by the template."""

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.resources import files as package_files
from typing import Any

from emoq_plugin import __version__
from emoq_plugin.recipe.report import task_sections as task
from emoq_plugin.recipe.report import unit_sections as units
from emoq_plugin.recipe.report.answers import answer_questions
from emoq_plugin.recipe.report.blocks import (
    Block,
    Section,
    Table,
    Text,
    plain_row,
)
from emoq_plugin.recipe.report.citations import (
    METHOD,
    METHOD_ADDRESS,
    cite_corpus,
)
from emoq_plugin.recipe.report.content import Content

BUILDERS: tuple[Callable[[Content], Section], ...] = (
    task.emotions,
    units.controls,
    task.confusions,
    units.routes,
    units.codebooks,
    task.soft_labels,
    units.representation,
    task.comparisons,
    task.all_scores,
)


def render_page(
    content: Content,
    *,
    other: Content | None = None,
    audio: bool = True,
    form: str = "html",
) -> str:
    """Write the page.

    Parameters
    ----------
    content : Content
    other : Content, optional
        A second experiment that is shown beside the first.
    audio : bool, default=True
        Make sounds of log-mel features, where units and features still exist.
    form : {"html", "md"}, default="html"

    Returns
    -------
    str
        HTML that loads nothing: styles, script, drawings and sounds are inside. Its
        content security policy allows only these. Or Markdown, which has the numbers
        of the drawings in tables.
    """
    audio = audio and form == "html"
    found = [task.glance(content), task.targets(content)]
    found.append(task.curves(content, other))
    found += [task.compared(content, other)] if other else []
    found += [build(content) for build in BUILDERS]
    found.append(_sounds(content, audio))
    script = _shipped("report.js")
    return _template(form).render(
        content=content,
        other=other,
        answers=answer_questions(content),
        sections=found,
        closing=[_leakage(content), _missing(content, found), _making(content)],
        references=_references(content, other),
        method_address=METHOD_ADDRESS,
        style=_shipped("report.css"),
        script=script,
        script_hash=_integrity(script),
        made=datetime.now(UTC).date().isoformat(),
        version=__version__,
    )


def _template(form: str) -> Any:
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


# ---------------------------------------------------------------------------- closing


def _sounds(content: Content, audio: bool) -> Section:
    from emoq_plugin.recipe.report.listening import clips_to_hear

    clips, why = clips_to_hear(content) if audio else ([], "switched off (--audio)")
    return Section(
        "sounds",
        "To listen to",
        "Log-mel features turned back into sound: band energies spread over "
        "frequencies, phases guessed by Griffin and Lim's iteration. A sketch, not a "
        "vocoder: compare with the continuous features, not with a recording. The "
        "clip's own offset (its mean level), which units do not carry, is put back.",
        blocks=list(clips),
        missing=f"No sounds: {why}.",
    )


def _leakage(content: Content) -> Section:
    # Quantizers of the same frames share their notes.
    found = dict.fromkeys(
        (str(e.facts.get("feature")), *str(note).partition(": ")[::2])
        for e in content.experiments
        for note in e.facts.get("leakage") or []
    )
    # A note on an encoder begins with its corpus.
    heard = [row for row in found if row[2]]
    table = Table(
        "What the encoder was trained on",
        ["features", "corpus", "in the training data of the encoder?"],
        [plain_row(row) for row in heard],
        style="words",
    )
    notes = [corpus for _, corpus, note in found if not note]
    notes.append(
        "Speakers of a test fold are in no other part of that fold; a system marked as "
        "control (oracle, random, wrong route, capacity) is never a result."
    )
    if content.summary.get("synthetic"):
        notes.insert(
            0,
            "SYNTHETIC speech: no human spoke this corpus. The numbers show that the "
            "tools work; they say nothing about human speech.",
        )
    blocks: list[Block] = [table] if heard else []
    blocks.append(Text(notes, "list"))
    return Section("leakage", "Leaks and limits", blocks=blocks)


def _missing(content: Content, found: list[Section]) -> Section:
    lines = [f"{s.title}: {s.missing}" for s in found if not s.blocks]
    for entry in content.summary.get("missing") or []:
        lines.append(f"{entry.get('job')}: {entry.get('why')}")
    if not content.complete:
        lines.insert(
            0,
            "This directory holds the scores of one experiment, not a study: several "
            "seeds, probes and tests come with stage 7.",
        )
    blocks: list[Block] = [Text(lines, "list")] if lines else []
    return Section("missing", "What is missing", blocks=blocks, missing="Nothing.")


def _making(content: Content) -> Section:
    summary = content.summary
    blocks: list[Block] = []
    if command := summary.get("command"):
        blocks.append(Text([str(command)], "code"))
    counted = [
        f"{summary[k]} {k}" for k in ("jobs", "cells") if summary.get(k) is not None
    ]
    if counted:
        blocks.append(Text([", ".join(counted) + "."]))
    environment = summary.get("environment") or {}
    versions = [f"{name} {version}" for name, version in environment.items()]
    blocks.append(Text([f"emoq {__version__} (this page)", *versions], "list"))
    if config := summary.get("config"):
        text = json.dumps(config, indent=2, ensure_ascii=False, default=str)
        blocks.append(Text(text.splitlines(), "code"))
    return Section("making", "Command, versions, configuration", blocks=blocks)


def _references(content: Content, other: Content | None) -> list[str]:
    corpora = [
        str(e.facts.get("corpus") or c.summary.get("corpus") or "")
        for c in (content, other)
        if c
        for e in c.experiments
    ]
    return [METHOD, *(cite_corpus(c) for c in dict.fromkeys(corpora) if c)]
