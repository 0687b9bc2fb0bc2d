"""The tier's figures, each under the question that its experiment asks."""

from __future__ import annotations

from irepa.pipeline.graph import Job
from irepa.report.markdown import paragraphs, titled
from irepa.report.tier import FinishedTier
from irepa.table import SPATIAL_NAMES

SHORT = {**SPATIAL_NAMES, "cls": "CLS"}  # names that are written in capitals


def figure(finished: FinishedTier, name: str) -> str:
    """One figure with its caption and the files of what it draws; where there is none, why."""
    job = Job("figure", name)
    question = finished.tier.experiments[finished.tier.figures[name].experiment].question
    head = paragraphs(titled(title(name), f"figure-{name}"), question)
    record = finished.plan.record(job)
    if record.failed is not None:
        return paragraphs(head, f"**No figure**: {record.failed}")
    files = ", ".join(finished.link_to(job, f".{kind}", kind.upper()) for kind in ("csv", "svg"))
    caption = f"{record.metrics['caption']}  \nWhat is drawn: {files}"
    return paragraphs(head, f"!{finished.link_to(job, '.png', question)}", caption)


def title(name: str) -> str:
    """``lds-sensitivity`` -> ``LDS sensitivity``."""
    words = " ".join(SHORT.get(word, word) for word in name.split("-"))
    return words[0].upper() + words[1:]
