"""The two query parameters of every list."""

from typing import Annotated

from litestar.params import QueryParameter

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="most items in one page")]
Cursor = Annotated[str | None, QueryParameter(description="`next_cursor` of the page before; absent: the first page")]
