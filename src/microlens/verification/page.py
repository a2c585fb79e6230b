"""The report of a verification as a self-contained HTML page with pictures of the worst files."""

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

import simplejpeg

import microlens
from microlens.media.faults import MediaFault
from microlens.media.processes import Killed, work
from microlens.media.reading import ClipSettings, read_clip, read_cover
from microlens.page import fill
from microlens.release.folder import COVER_SUFFIXES
from microlens.release.text_files import shown
from microlens.verification.findings import Case, Finding
from microlens.verification.report import Verification

_EXAMPLES = 5
_MOST_PICTURES = 24
_PICTURE_SIZE = 160
_JPEG_QUALITY = 80
_LARGEST_FILE = 1 << 28  # bytes; a larger file is not read for a picture
_CHECKS_WITH_PICTURES = ("videos", "covers", "values", "duplicates")
_LONGEST = 200


def write_page(path: Path, found: Verification) -> None:
    """Write the report of a verification as an HTML page.

    Pictures are decoded in another process, because a file may kill the process that decodes it.
    """
    worst = list(_worst(found))
    pictures = _pictures(found.release, [case for _, case in worst])
    fill(
        path,
        "verification.html",
        {
            "title": f"{escape(found.release.resolve().name)}: verified",
            "compared": f"{escape(str(found.identity.counts))}.",
            "verdict": _verdict(found),
            "panels": "\n".join(_panels(found)),
            "findings": _table(found.findings),
            "about_pictures": _about_pictures(found, len(worst)),
            "pictures": f'<div class="cards wrapped">{"".join(_cards(worst, pictures))}</div>' if worst else "",
            "provenance": _provenance(found),
        },
    )


def _verdict(found: Verification) -> str:
    number = found.num_faults
    faults = f"<b>{number:,} fault{'s' if number > 1 else ''}</b>" if number else "No faults"
    sentence = found.identity.sentence
    return f"{faults}. {escape(sentence[0].upper() + sentence[1:])}."


def _panels(found: Verification) -> Iterator[str]:
    decoded = ", ".join(f"{number:,} {kind}" for kind, number in found.checked.items() if number)
    yield _panel(found, "Files", ("videos", "covers", "sounds", "files"), f"Decoded: {decoded or 'none'}.")
    yield _panel(found, "Tables", ("completeness", "tables", "values"), "What items lack; impossible values.")
    yield _panel(found, "Duplicates", ("duplicates",), "Items with the same file, or one that looks the same.")
    yield _panel(found, "Identity", ("identity",), "Against what is published.")


def _panel(found: Verification, heading: str, checks: Sequence[str], about: str) -> str:
    own = [finding for finding in found.findings if finding.check in checks]
    faults, notes = (sum(len(one.cases) for one in own if one.is_fault is wanted) for wanted in (True, False))
    counts = f"<b>{faults:,} faults</b>, {notes:,} notes"
    return f'<section class="panel"><h3>{heading}</h3><small>{counts}</small><p>{about}</p></section>'


def _table(findings: Sequence[Finding]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in ("found", "cases", "such as"))
    ordered = sorted(findings, key=lambda finding: not finding.is_fault)
    rows = "".join(_row(finding) for finding in ordered) or '<tr><th scope="row">nothing</th><td></td><td></td></tr>'
    return f'<table class="findings"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _row(finding: Finding) -> str:
    kind = f"{escape(finding.check)}: {escape(finding.kind)}"
    examples = "<br>".join(escape(shown(str(case), _LONGEST)) for case in finding.cases[:_EXAMPLES])
    name = f"<b>{kind}</b>" if finding.is_fault else f'<span class="quiet">{kind}</span>'
    return f'<tr><th scope="row">{name}</th><td>{len(finding.cases):,}</td><td>{examples}</td></tr>'


def _worst(found: Verification) -> Iterator[tuple[Finding, Case]]:
    """The first cases of every kind that are about a file with pictures, faults first, in turn."""
    kinds = [
        [(finding, case) for case in finding.cases[:_MOST_PICTURES] if case.file is not None]
        for finding in sorted(found.findings, key=lambda finding: not finding.is_fault)
        if finding.check in _CHECKS_WITH_PICTURES
    ]
    turns = ([cases[turn] for cases in kinds if turn < len(cases)] for turn in range(_MOST_PICTURES))
    yield from [entry for turn in turns for entry in turn][:_MOST_PICTURES]


def _about_pictures(found: Verification, number: int) -> str:
    if number:
        return "Of every kind some files, the middle frame of a video or the cover; a grey field is a file without any."
    return "No file is at fault." if any(found.checked.values()) else "There are no media files."


def _pictures(release: Path, cases: Sequence[Case]) -> dict[str, str]:
    """The pictures of files as JPEG in base64, by name; without those that cannot be decoded."""
    names = {name for case in cases for name in (case.file, case.beside) if name is not None}
    paths = {str(release / name): name for name in sorted(names)}
    answers = work(jpeg_of, list(paths), 1)
    return {
        paths[path]: base64.b64encode(answer).decode()
        for path, answer in answers
        if answer is not None and not isinstance(answer, Killed)
    }


def jpeg_of(name: str) -> bytes | None:
    """The centre of the middle frame of a video, or of a cover, as a small JPEG; None if there is none."""
    path = Path(name)
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return None
        if path.suffix.lower() in COVER_SUFFIXES:
            pixels = read_cover(path, _PICTURE_SIZE, "center").pixels
        else:
            settings = ClipSettings(num_frames=1, size=_PICTURE_SIZE, crop="center")
            pixels = read_clip(path, settings).frames[0]
    except (MediaFault, OSError):
        return None
    coded: bytes = simplejpeg.encode_jpeg(pixels, _JPEG_QUALITY, colorspace="RGB", colorsubsampling="420")
    return coded


def _cards(worst: Sequence[tuple[Finding, Case]], pictures: dict[str, str]) -> Iterator[str]:
    for finding, case in worst:
        names = [name for name in (case.beside, case.file) if name is not None]
        shown_names = "".join(f"<div>{_image(pictures.get(name))}</div>" for name in names)
        yield (
            f'<figure class="card case">{shown_names}<b>{escape(finding.kind)}</b>'
            f"<p>{escape(shown(str(case), _LONGEST))}</p></figure>"
        )


def _image(content: str | None) -> str:
    return f'<img alt="" src="data:image/jpeg;base64,{content}">' if content else "<span>no picture</span>"


def _provenance(found: Verification) -> str:
    files = "".join(f"<li>{escape(name)}: {escape(how)}</li>" for name, how in found.identity.files.items())
    prints = vars(found.identity.fingerprints).items()
    codes = ", ".join(f"{name.replace('_', ' ')} <code>{value}</code>" for name, value in prints if value)
    listed = f'<p>Files with published names:</p><ul class="notes">{files}</ul>' if files else ""
    return (
        f"<p><code>{escape(str(found.release))}</code>, microlens {escape(microlens.__version__)}.</p>"
        f"<p>Fingerprints of the interactions: {codes}.</p>{listed}"
    )
