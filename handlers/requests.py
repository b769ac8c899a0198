"""What may be asked: one model for the fields of each route."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, model_validator

from handlers.clustering import Clustering
from handlers.errors import BadRequest
from handlers.fields import AtMost, Cosine, Count, Id, ImageIds, ProjectRef, Prompts, Request, Seed
from handlers.selection import Method

ClusterCount = Annotated[Count, AtMost("clusters")]


class NoFields(Request):
    """Nothing needs to be said."""


class OneProject(Request):
    """A project."""

    project_id: ProjectRef


class MaybeProject(Request):
    """A project, or all of them."""

    project_id: ProjectRef | None = None


class EmbeddingsRequest(Request):
    """Make embeddings.

    :param force: again, even where the hash is unchanged
    :param team_id: accepted from old clients, unused
    """

    project_id: ProjectRef | None = None
    image_ids: ImageIds | None = None
    team_id: Id | None = None
    force: bool = False
    return_vectors: bool = False
    dry_run: bool = False

    @model_validator(mode="after")
    def _names_something(self) -> EmbeddingsRequest:
        if self.project_id is None and not self.image_ids:
            raise BadRequest("project_id", "is needed, or image_ids")
        return self


class SearchRequest(Request):
    """Search by texts, by images, or both.

    :param image_ids: images to search among beside `by_image_ids`, and to search by when they come
        alone; beside `prompt` the setting SEARCH_IMAGE_IDS decides
    :param restricted_image_ids: images to search among, always
    :param unique_content: whether of several files with the same bytes only one is an answer
    """

    project_id: ProjectRef
    limit: Annotated[Count, AtMost("search_limit")] = 50
    prompt: Prompts | None = None
    by_image_ids: ImageIds | None = Field(
        None, validation_alias=AliasChoices("by_image_ids", "imageIds", "byImageIds")
    )
    image_ids: ImageIds | None = Field(None, validation_alias=AliasChoices("image_ids"))
    restricted_image_ids: ImageIds | None = None
    dataset_id: Id | None = None
    threshold: Cosine | None = None
    negative_prompt: Prompts | None = None
    negative_image_ids: ImageIds | None = None
    scoring: Literal["auto", "cosine", "calibrated"] = "auto"
    include_query: bool = False
    exact: bool = False
    unique_content: bool = False


class DiverseRequest(Request):
    """Choose a diverse subset.

    :param selected_image_ids: chosen earlier; the new ones complement them
    """

    project_id: ProjectRef
    sample_size: Annotated[Count, AtMost("sample_size")] = Field(
        validation_alias=AliasChoices("sample_size", "uniqueItems", "limit", "sampleSize")
    )
    method: Method | None = None
    sampling_method: Literal["random", "centroids"] | None = None
    clustering_method: Clustering | None = None
    num_clusters: ClusterCount = Field(
        8, validation_alias=AliasChoices("num_clusters", "numberOfClusters", "numClusters")
    )
    image_ids: ImageIds | None = Field(
        None, validation_alias=AliasChoices("image_ids", "restrictedImageIds", "imageIds")
    )
    dataset_id: Id | None = None
    seed: Seed = 0
    selected_image_ids: ImageIds | None = None

    @property
    def chosen_method(self) -> Method:
        """The method, whichever of its three spellings names it."""
        return self.method or self.sampling_method or self.clustering_method or "representative"


class ProjectionsRequest(Request):
    """Lay images out on a map."""

    project_id: ProjectRef
    image_ids: ImageIds | None = None


class ClustersRequest(Request):
    """Group images."""

    project_id: ProjectRef
    image_ids: ImageIds | None = None
    clustering_method: Clustering = "kmeans"
    num_clusters: ClusterCount = Field(
        8, validation_alias=AliasChoices("num_clusters", "numberOfClusters", "numClusters")
    )


class TaskRequest(Request):
    """A background task, which is named after its project."""

    task_id: ProjectRef


class EventsRequest(Request):
    """What somebody saw change."""

    project_ids: Annotated[list[ProjectRef], AtMost("event_projects")] | None = None
    image_ids: ImageIds | None = None

    @model_validator(mode="after")
    def _names_something(self) -> EventsRequest:
        if not self.project_ids and not self.image_ids:
            raise BadRequest("project_ids", "is needed, or image_ids")
        return self


class QuarantineRequest(Request):
    """What is set aside, of a project or of all."""

    project_id: ProjectRef | None = None
    limit: Annotated[Count, AtMost("search_limit")] = 1_000


class RetryRequest(Request):
    """Which pictures to try again: some, a project's, or all."""

    project_id: ProjectRef | None = None
    image_ids: ImageIds | None = None


class EncoderRequest(Request):
    """Which encoder is to answer; none named: whichever is at work."""

    encoder_id: str | None = Field(None, max_length=100)


class RemovalsRequest(Request):
    """Which held removals of a project to settle: some, or all."""

    project_id: ProjectRef
    image_ids: ImageIds | None = None
