"""Answers of another shape than the platform's, such as a proxy's own, are its absence, no defect of ours."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.platform.client import fields_of, number_of, rows_of
from daemon.platform.listing import changed_since
from daemon.platform.source import PlatformSource
from daemon.platform.watermark import Watermark
from state.errors import Unavailable

PROJECT = {"id": 7, "name": "cats", "embeddingsEnabled": True, "teamId": 1}


class Told:
    """A client that is answered the same, whatever it asks."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.server = "http://platform"

    async def post(self, method: str, body: Any) -> Any:
        return self.answer

    async def pages(self, method: str, body: Any) -> Any:
        yield rows_of(self.answer)


class Elsewhere:
    """Pictures nobody asks for."""

    fallback_routes: frozenset[str] = frozenset()


def source_told(answer: Any) -> PlatformSource:
    parts: list[Any] = [Told(answer), Elsewhere(), None, lambda ids: None, 1.0, lambda: 0.0]
    return PlatformSource(*parts)


@pytest.mark.parametrize(
    "answer",
    [None, [], "page", {}, {"entities": None}, {"entities": {}}, {"entities": [None]}, {"entities": ["x"]}],
)
def test_a_listing_without_rows_is_told(answer: Any) -> None:
    with pytest.raises(Unavailable):
        rows_of(answer)


@pytest.mark.parametrize("value", [None, "x", [], {}, "1.5"])
def test_what_is_no_number_is_told(value: Any) -> None:
    with pytest.raises(Unavailable):
        number_of(value)


@pytest.mark.parametrize("answer", [None, [], "page", {"error": 1}])
def test_an_answer_without_its_fields_is_told(answer: Any) -> None:
    with pytest.raises(Unavailable):
        fields_of(answer, "id")


@pytest.mark.parametrize("row", [{}, {"id": None}, {"id": "x"}, {**PROJECT, "teamId": "x"}])
async def test_a_survey_of_rows_that_are_no_projects_is_put_off(row: Any) -> None:
    with pytest.raises(Unavailable):
        await source_told({"entities": [row]}).survey()


@pytest.mark.parametrize("row", [{}, {"id": 1}, {"id": "x", "datasetId": 1}])
async def test_a_listing_of_rows_that_are_no_images_is_put_off(row: Any) -> None:
    client: Any = Told({"entities": [row], "total": 1})
    with pytest.raises(Unavailable):
        [page async for page in changed_since(client, 7, Watermark())]
