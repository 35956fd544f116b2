"""Progress bars for what counts up to a known end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tqdm import tqdm


def show_on(bar: tqdm[Any]) -> Callable[[int, int | None], None]:
    """Make a callback of done and total that moves a bar."""

    def show(done: int, total: int | None) -> None:
        bar.total = total
        bar.update(done - bar.n)

    return show
