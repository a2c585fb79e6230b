"""The report of a verification: as text, as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import microlens
from microlens.files.writing import write_text
from microlens.release.text_files import shown
from microlens.verification.findings import Case, Finding
from microlens.verification.identity import Identity

_EXAMPLES = 3
_LONGEST = 160


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What was found in a release.

    Attributes:
        release: its path.
        identity: which published set it is.
        checked: the number of files that were decoded, by kind.
        findings: faults and notes.
    """

    release: Path
    identity: Identity
    checked: dict[str, int]
    findings: list[Finding]

    @property
    def faults(self) -> list[Finding]:
        """The findings that are faults."""
        return [finding for finding in self.findings if finding.is_fault]

    @property
    def num_faults(self) -> int:
        """The number of cases in all faults."""
        return sum(len(finding.cases) for finding in self.faults)

    def text(self) -> str:
        """The report as lines of text, with a few examples of each kind."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{self.release}: {self.identity.counts}"
        yield f"identity: {self.identity.sentence}"
        for name, how in self.identity.files.items():
            yield f"file: {name}, {how}"
        counts = ", ".join(f"{number:,} {kind}" for kind, number in self.checked.items() if number)
        yield f"decoded: {counts or 'no media files'}"
        for finding in self.findings:
            if finding.is_fault or finding.check != "identity":
                yield _line(finding)
        yield f"{self.num_faults:,} faults" if self.num_faults else "no faults"

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON values, with every case."""
        mapping = self.identity.mapping
        identity = {
            "verdict": self.identity.verdict,
            "sentence": self.identity.sentence,
            "set": self.identity.set_name,
            "counts": asdict(self.identity.counts),
            "files": self.identity.files,
            "fingerprints": asdict(self.identity.fingerprints),
        }
        if mapping is not None:
            identity["mapping"] = {
                "by": mapping.by,
                "rows": mapping.rows,
                "agreeing": mapping.agreeing,
                "items": len(mapping.items),
                "users": len(mapping.users),
            }
        return {
            "microlens": microlens.__version__,
            "release": str(self.release),
            "identity": identity,
            "checked": self.checked,
            "num_faults": self.num_faults,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def write_json(self, path: Path) -> None:
        """Write :meth:`as_dict` to a file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(self.as_dict(), indent=1) + "\n")


def _line(finding: Finding) -> str:
    examples = "; ".join(_shown(case) for case in finding.cases[:_EXAMPLES])
    more = "; ..." if len(finding.cases) > _EXAMPLES else ""
    kind = f"{finding.check}, {finding.kind}"
    return f"{'fault' if finding.is_fault else 'note'}: {len(finding.cases):,} {kind} ({examples}{more})"


def _shown(case: Case) -> str:
    return shown(str(case), _LONGEST)
