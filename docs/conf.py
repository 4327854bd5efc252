"""How the pages are built: ``make docs``. The repository's own Markdown files are the pages, wherever they lie.

So that a link means the same here and on a forge, the source folder is the repository, not ``docs``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

# Before autodoc, which would import it by halves.
import airflow.providers.common.compat.sdk  # noqa: F401
from docutils import nodes
from pygments.lexers.shell import BashLexer
from sphinx import addnodes

from airflow_provider_ims import __version__

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "airflow-provider-ims"
author = "the airflow-provider-ims authors"
release = __version__
html_title = f"airflow-provider-ims {__version__}"
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/**",
    "benchmarks/*.md",
    "airflow_provider_ims/emulator/README.md",
]
exclude_patterns = ["build", ".venv*", "**/.*", "tests", "dist"]

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# GitHub's way to make an anchor of a heading, as far down as the pages have headings.
myst_heading_anchors = 4
nitpicky = True
# Types of other libraries, and of this one's insides, have no page to lead to.
nitpick_ignore_regex = [("py:class", ".*")]

# As the code names them, and what a reader needs to know.
autodoc_type_aliases = {
    "Age": "timedelta | str",
    "Moment": "datetime | date | str",
    "Texts": "str | Collection[str]",
    "OutcomePolicy": "Literal['fail', 'warn', 'ignore']",
}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 60

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False


def setup(app: Sphinx) -> None:
    """Make the folder itself open at the first page."""

    def redirect(app: Sphinx, failed: Exception | None) -> None:
        if not failed:
            text = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">\n'
            Path(app.outdir, "index.html").write_text(text, encoding="utf-8")

    def drop_return_type_of_classes(
        app: Sphinx, domain: str, kind: str, content: addnodes.desc_content
    ) -> None:
        # ``:returns:`` of an operator is about its task. autodoc adds that its constructor returns None.
        if kind in ("class", "exception"):
            for field in list(content.findall(nodes.field)):
                if field[0].astext() == "rtype":
                    field.parent.remove(field)

    app.connect("build-finished", redirect)
    app.connect("object-description-transform", drop_return_type_of_classes, priority=600)
    app.add_lexer("dotenv", BashLexer)
