"""The safeguards that mutations take out are still where they are looked for; `make chaos` takes them out."""

from __future__ import annotations

from mutations import MUTATIONS, ROOT


def test_each_safeguard_is_there_once() -> None:
    """A mutation whose text is gone would test nothing; so would one whose tests are gone."""
    for mutation in MUTATIONS:
        assert (ROOT / mutation.file).read_text("utf-8").count(mutation.old) == 1, mutation.name
        paths = [part.split("::")[0] for part in mutation.noticed_by.split() if part.startswith("tests/")]
        assert paths, mutation.name
        assert all((ROOT / path).exists() for path in paths), mutation.name
