"""Shows the roles of docstrings on the site as code: ``:class:`Run``` becomes ``Run``."""

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")


class PlainRoles(griffe.Extension):
    """Replaces a role by the last part of the name that it links to."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite an object's docstring."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(lambda role: f"`{_short(role[1])}`", obj.docstring.value)


def _short(name: str) -> str:
    return name.rpartition(".")[2] if name.startswith("microlens.") else name
