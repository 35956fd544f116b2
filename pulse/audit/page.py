"""audit.html and audit.md: the audit as a page without a network, and for a model card."""

from __future__ import annotations

from pathlib import Path

import pulse
from pulse.audit import plots
from pulse.audit.people import BASELINES, MEASURES
from pulse.audit.results import CARD_NAME, PAGE_NAME, Results
from pulse.audit.statistics import FEWEST_PEOPLE, LEVEL
from pulse.audit.words import interval_words, representation_words
from pulse.faces.embedding import SAME_PERSON
from pulse.files import write_text_atomically
from pulse.report.page import template_environment


def write_pages(results: Results, out: Path) -> Path:
    """Write both; everything in them is in the results.

    The section has the headings of Mitchell et al. 2019 ("Model cards for model reporting").

    Returns:
        The page.

    Raises:
        PulseError: if they cannot be written, or matplotlib is missing.
    """
    studies = results.studies
    common = {
        "about": results.about,
        "alone": results.alone,
        "measures": (*MEASURES, *BASELINES),
        "fewest": FEWEST_PEOPLE,
        "level": LEVEL,
        "words": interval_words,
        "representation_words": representation_words,
    }
    templates = template_environment()
    page = templates.get_template("audit.html").render(
        common,
        version=pulse.__version__,
        studies=[
            {
                **study,
                "plot": plots.groups_plot(study),
                "joints": {by: plots.joint_plot(r) for by, r in study["representation"].items()},
            }
            for study in studies
        ],
        alone_plot=plots.alone_plot(results.alone) if results.alone else None,
    )
    section = templates.get_template("audit.md").render(
        common,
        studies=studies,
        same_person=SAME_PERSON,
        small=sorted({g for s in studies for g, n in s["people"].items() if n < FEWEST_PEOPLE}),
    )
    write_text_atomically(out / CARD_NAME, section + "\n")
    write_text_atomically(out / PAGE_NAME, page)
    return out / PAGE_NAME
