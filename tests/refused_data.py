"""The message for data that are refused."""

from pathlib import Path
from typing import Any

import pytest

from ssgan.data.datasets import load
from ssgan.errors import UserError
from ssgan.settings.options import Options


def refusal(name_or_path: str | Path, root: str | Path | None = None, **options: Any) -> str:
    """The one sentence that refuses the data."""
    with pytest.raises(UserError) as refused:
        load(name_or_path, root, Options(**options))
    sentence = str(refused.value)
    assert "\n" not in sentence
    assert sentence.endswith((".", "?"))
    return sentence
