"""How the pages are built: ``make docs``. The repository's own Markdown files are the pages, wherever they lie.

So that a link means the same here and on a forge, the source folder is the repository, not ``docs``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before autodoc, which would import it by halves.
import airflow.providers.common.compat.sdk  # noqa: F401
from docutils import nodes
from pygments.lexers.shell import BashLexer
from sphinx import addnodes
from sphinx.util.inspect import signature as signature_of
from sphinx.util.inspect import stringify_signature

from airflow_provider_ims import __version__
from airflow_provider_ims.base import IMSTask

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "airflow-provider-ims"
author = "the airflow-provider-ims authors"
release = __version__
html_title = f"airflow-provider-ims {__version__}"
root_doc = "docs/index"
include_patterns = [
    "README.md",
    "README.zh-CN.md",
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
nitpick_ignore_regex = [("py:class", ".*"), ("py:exc", "GuardError|OutcomeError")]

# As the code names them, and what a reader needs to know.
SPELLED_OUT = {
    "Age": "timedelta | str",
    "Moment": "datetime | date | str",
    "Texts": "str | Collection[str]",
    "OutcomePolicy": "Literal['fail', 'warn', 'ignore']",
    "IMSHook.default_conn_name": "'ims_default'",
    "default_conn_name": "'ims_default'",
}
NAMES = re.compile(r"\b(" + "|".join(map(re.escape, SPELLED_OUT)) + r")\b")
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
python_use_unqualified_type_names = True
maximum_signature_line_length = 60

html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def spell_out(text: str) -> str:
    """Put what a reader needs to know in the place of the code's names."""
    return NAMES.sub(lambda found: SPELLED_OUT[found[1]], text)


def redirect(app: Sphinx, failed: Exception | None) -> None:
    """Make the folder itself open at the first page."""
    if not failed:
        text = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">\n'
        Path(app.outdir, "index.html").write_text(text, encoding="utf-8")


def simplify_fields(app: Sphinx, domain: str, kind: str, content: addnodes.desc_content) -> None:
    """Spell out types, and say of a class only what it returns, not as what type.

    ``:returns:`` of an operator is about its task. autodoc adds that its constructor returns None.
    """
    for field in list(content.findall(nodes.field)):
        name = field[0].astext()
        if name == "rtype" and kind in ("class", "exception"):
            field.parent.remove(field)
        elif name.startswith("type "):
            for text in list(field[1].findall(nodes.Text)):
                text.parent.replace(text, nodes.Text(spell_out(text)))


def simplify_signature(
    app: Sphinx, kind: str, name: str, thing: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str, str | None] | None:
    """Show none where nobody makes the thing but the hook, or it is made as its parent is."""
    if signature is None:
        return None
    child = kind == "exception" and "__init__" not in vars(thing)
    # Not is_dataclass(), for which Airflow's own base classes make a dataclass of every operator.
    is_record = kind == "class" and "__dataclass_fields__" in vars(thing)
    if isinstance(thing, type) and issubclass(thing, IMSTask):
        # autodoc would show that of __new__, which takes anything.
        made = stringify_signature(signature_of(thing.__init__, bound_method=True), show_annotation=False)
        signature = made.replace(
            "deferrable=False", "deferrable=conf.getboolean('operators', 'default_deferrable')"
        )
    return "" if child or is_record else spell_out(signature), returns


def setup(app: Sphinx) -> None:
    """Tell Sphinx of all of these."""
    app.connect("build-finished", redirect)
    app.connect("autodoc-process-signature", simplify_signature)
    app.connect("object-description-transform", simplify_fields, priority=600)
    app.add_lexer("dotenv", BashLexer)
