"""The JSON of frozen models, of which tasks that are alike share the objects."""

from __future__ import annotations

from pydantic import BaseModel

MOST = 1000
"""Of so many models the texts are kept at most."""


class ModelTexts:
    """The JSON of each model; that of an object is written once."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[BaseModel, str]] = {}

    def __getitem__(self, model: BaseModel) -> str:
        found = self._texts.get(id(model))
        if found is None:
            if len(self._texts) >= MOST:
                self._texts.clear()
            found = self._texts[id(model)] = (model, model.model_dump_json())
        return found[1]
