"""Files that parameters name: read once, when the batch is checked, and kept by their hash."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dfz_ray.specs.problems import show_name

LIMIT_BYTES = 2**31
TEXT_LIMIT_BYTES = 2**26
"""A larger file is no text that a person wrote, or wants to be told the errors of."""
SHARED = "shared"
"""The name of the input that has the names of the shared arrays: JSON, each with the SHA-256 of its array."""

Content = bytes | memoryview
"""The content of a file; a large one is a view of memory that all tasks of a node share."""


def call_input(task: int) -> str:
    """The name of the input that has the arguments of a call, if these are large."""
    return f"call-{task}"


@dataclass(frozen=True)
class InputFile:
    """A file that a parameter names, with its content.

    Use it as the type of a field of a `Parameters` model. Users give a path, relative to the batch file. A task has
    the file's name and hash; the content is sent once, however many tasks name it.
    """

    name: str
    sha256: str
    buffer: Content = field(repr=False, compare=False)
    """The content: as bytes, or, of a file of more than 64 MiB, as a view of memory that all tasks of a node share.
    What takes any buffer, such as `numpy.frombuffer`, reads it without a copy. It is left out of comparisons.
    """

    @property
    def content(self) -> bytes:
        """The content as bytes; of a large file this is a copy."""
        return bytes(self.buffer)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the file as bytes: a view can't travel."""
        return InputFile, (self.name, self.sha256, self.content)

    @property
    def text(self) -> str:
        """The content as UTF-8. Raises ValueError if the content is not UTF-8, or has more than 64 MiB."""
        if len(self.buffer) > TEXT_LIMIT_BYTES:
            raise ValueError(f"expected a text of at most {TEXT_LIMIT_BYTES} bytes; {self.name} has {len(self.buffer)}")
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"expected a text in UTF-8; byte {error.start} of {self.name} is {error.object[error.start]:#04x}"
            ) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda file: {"name": file.name, "sha256": file.sha256}
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, str]:
        return {"type": "string", "format": "path"}

    @classmethod
    def _validate(cls, value: Any, info: core_schema.ValidationInfo) -> InputFile:
        shelf = info.context if isinstance(info.context, FileShelf) else FileShelf()
        if isinstance(value, InputFile):
            return value
        if isinstance(value, (str, os.PathLike)):
            return shelf.read(os.fsdecode(value))
        if isinstance(value, dict) and value.keys() == {"name", "sha256"} and value["sha256"] in shelf.contents:
            return cls(value["name"], value["sha256"], shelf.take(value["sha256"]))
        raise ValueError("the path of a file")


@dataclass
class FileShelf:
    """The files of a batch: the validation context of a `Parameters` model.

    `Model.model_validate(parameters, context=shelf)` reads files through it.
    """

    folder: Path = field(default_factory=Path.cwd)
    """The folder that relative paths start from."""
    contents: dict[str, Content] = field(default_factory=dict)
    """By SHA-256 in hex; and what else the run has under a name."""
    _read: dict[Path, InputFile] = field(default_factory=dict)

    def take(self, sha256: str) -> Content:
        """The content of a file that is here; as bytes unless it is large, for these outlive the run."""
        content = self.contents[sha256]
        if isinstance(content, memoryview) and len(content) <= TEXT_LIMIT_BYTES:
            content = self.contents[sha256] = bytes(content)
        return content

    def resolve(self, path: str) -> Path:
        """Make a user's path absolute. Raises ValueError if the text can't be a path."""
        try:
            if not path or b"\0" in os.fsencode(path):
                raise ValueError("the path of a file")
            return (self.folder / Path(path).expanduser()).absolute()
        except UnicodeEncodeError:
            raise ValueError("the path of a file") from None
        except RuntimeError as error:  # ~NAME, and there is no such user
            raise ValueError(f"the path of a file; {error}") from None

    def read(self, path: str) -> InputFile:
        """Read a file, once. Raises ValueError if there is no such file, it is no regular file, or it is too large."""
        full = self.resolve(path)
        if full not in self._read:
            content = read_regular(full)
            digest = hashlib.sha256(content).hexdigest()
            self._read[full] = InputFile(full.name, digest, self.contents.setdefault(digest, content))
        return self._read[full]


def read_regular(path: Path, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """The content of a regular file (no FIFO, no device, not too large); else raises ValueError with the reason."""
    name = show_name(str(path))
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= limit_bytes:
            return path.read_bytes()
    except OSError as error:
        raise ValueError(f"a file that can be read; {name}: {error.strerror or error}") from None
    except ValueError:  # the path has a NUL or a lone surrogate
        raise ValueError(f"the path of a file; {name} can't be one") from None
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"a regular file; {name} is none")
    raise ValueError(f"a file of at most {limit_bytes} bytes; {name} has {status.st_size}")
