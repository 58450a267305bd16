"""The documentation site: ``make docs``. Nothing is fetched while it is built."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, os.fspath(ROOT))

from deepfake.version import VERSION  # noqa: E402
from docs.site import accuracy, reference  # noqa: E402

project = "Deepfake"
author = "the authors of Deepfake"
project_copyright = f"{author}, Apache-2.0"
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "undoc-members": True}
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"Deepfake {VERSION}"
html_static_path = ["static"]
html_css_files = ["tables.css"]
html_copy_source = False
html_show_sourcelink = False

GENERATORS: dict[str, Callable[..., str]] = {
    "summary": accuracy.summary,
    "accuracy": accuracy.slot_tables,
    "failures": accuracy.known_failures,
    "codes": reference.codes,
    "options": reference.options,
    "settings": reference.settings_table,
    "limits": reference.limits,
    "switches": reference.switches,
    "commands": reference.commands,
    "schema": reference.schema_table,
    "schema-json": reference.schema_json,
}


class Generated(SphinxDirective):
    """``{generated} NAME [SLOT]``: Markdown that is made when the site is built."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        name, *slot = self.arguments
        self.env.note_reread()
        return self.parse_text_to_nodes(GENERATORS[name](*slot), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("generated", Generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
