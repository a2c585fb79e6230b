"""The form with which a video is sent, read piece by piece: the file onto the disk, the texts into memory."""

import unicodedata
from typing import BinaryIO

from fastapi import HTTPException
from python_multipart import MultipartParser
from python_multipart.multipart import parse_options_header

from microlens.errors import one_line, printable

_TEXTS = ("title", "tag")
_MOST_TEXT_BYTES = 8192
_INVISIBLE = ("C", "M", "Z")


def boundary_of(content_type: str) -> bytes:
    """The boundary between the parts of a form.

    Raises:
        HTTPException: 415, the content is no form with files.
    """
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(415, "a video is sent as multipart/form-data with file, title and tag")
    return options[b"boundary"]


class UploadForm:
    """Collects the parts of a form while it arrives. The name that the client gives the file is not read.

    Args:
        boundary: the boundary between the parts.
        file: where the content of the part ``file`` is written.
    """

    def __init__(self, boundary: bytes, file: BinaryIO) -> None:
        self._file = file
        self._has_file = False
        self._texts: dict[str, bytearray] = {}
        self._text: bytearray | None = None  # the text that is being read
        self._name, self._value, self._disposition = bytearray(), bytearray(), b""
        self._is_complete = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_headers_finished": self._begin_part,
                "on_part_data": self._add,
                "on_end": self._end,
            },
        )

    def write(self, data: bytes) -> None:
        """Take up the next piece.

        Raises:
            HTTPException: 422, a field is not accepted.
            MultipartParseError: this is no form.
            OSError: the file cannot be written.
        """
        self._parser.write(data)

    def text(self, name: str) -> str:
        """A text of the complete form, on one line without control characters; empty if it is missing.

        Raises:
            HTTPException: 422, the form is not complete, there is no file, or the text is not UTF-8.
        """
        if not self._is_complete:
            raise HTTPException(422, "the form is cut off; its last boundary is missing")
        if not self._has_file:
            raise HTTPException(422, "file: is missing")
        try:
            given = self._texts.get(name, b"").decode()
        except UnicodeDecodeError:
            raise HTTPException(422, f"{name}: is not UTF-8") from None
        text = printable(" ".join(given.split()))
        return text if any(not unicodedata.category(sign).startswith(_INVISIBLE) for sign in text) else ""

    def _end_header(self) -> None:
        if bytes(self._name).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _begin_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._disposition = b""
        name = options.get(b"name", b"").decode(errors="replace")
        if name == "file":
            if self._has_file:
                raise HTTPException(422, "file: only one is accepted")
            self._has_file, self._text = True, None
        elif name in _TEXTS:
            if name in self._texts:
                raise HTTPException(422, f"{name}: only one is accepted")
            self._text = self._texts[name] = bytearray()
        else:
            raise HTTPException(422, f"there is no field '{one_line(name, 50)}'; accepted are file, title and tag")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._file.write(memoryview(data)[start:end])
        elif len(self._text) + end - start > _MOST_TEXT_BYTES:
            raise HTTPException(422, "title, tag: too long")
        else:
            self._text.extend(data[start:end])

    def _end(self) -> None:
        self._is_complete = True
