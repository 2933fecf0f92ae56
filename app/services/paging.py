"""One page of a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
LARGEST_PAGE = 100


@dataclass(frozen=True)
class Page(Generic[T]):
    """`page` counts from 1; `total` is the number of items on all pages."""

    items: list[T]
    page: int
    page_size: int
    total: int

    @property
    def pages(self) -> int:
        """The number of pages, at least 1."""
        return max(1, -(-self.total // self.page_size))

    @property
    def has_next(self) -> bool:
        """Whether a page follows."""
        return self.page < self.pages

    @property
    def has_previous(self) -> bool:
        """Whether a page comes before."""
        return self.page > 1


def part_of(items: list[T], page: int, page_size: int) -> Page[T]:
    """Return a page of a short list; pages count from 1."""
    first = (page - 1) * page_size
    return Page(items[first : first + page_size], page, page_size, len(items))
