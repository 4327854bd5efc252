"""What OpenLineage hears of a deletion: the files that it dropped from their buckets.

A dataset is a file, so only media that were deleted together with their files count. To take a medium out of the
library alone leaves its file where it was, and the library has no name that another tool could know it by.

Names follow https://openlineage.io/docs/spec/naming. It does not list OSS; a file in it is named like one in S3 or
GCS: namespace ``oss://{bucket}``, name ``{object key}``, whichever way its URL is spelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_ims.api.identifiers import stored_object
from airflow_provider_ims.deletion.resolve import Outcome, TargetResult

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage  # type: ignore[import-not-found]

# So many files are named at most; an event goes out in one request.
MAX_DATASETS = 100


class DroppedFiles:
    """Remembers the first files that are deleted. Media that were given by id alone tell no file.

    :param urls: those of an earlier part of the task.
    """

    def __init__(self, urls: Iterable[str] = ()) -> None:
        self.urls = list(urls)

    def record(self, result: TargetResult) -> None:
        """Take in what became of one target whose file was to go, too."""
        if result.outcome is not Outcome.DELETED or len(self.urls) >= MAX_DATASETS:
            return
        columns = result.target.columns
        url = columns.get("input_url") if columns else result.target.value
        if isinstance(url, str) and stored_object(url):
            self.urls.append(url.partition("?")[0])


def lineage(dropped: DroppedFiles | None) -> OperatorLineage:
    """Make what OpenLineage asks for: each file as a dataset whose state changed to ``DROP``.

    Called by OpenLineage's provider alone, so that is installed.
    """
    from airflow.providers.common.compat.openlineage import facet
    from airflow.providers.openlineage.extractors import OperatorLineage

    def dataset(namespace: str, name: str) -> Any:
        change = facet.LifecycleStateChangeDatasetFacet(
            lifecycleStateChange=facet.LifecycleStateChange.DROP.value,
            previousIdentifier=facet.PreviousIdentifier(namespace=namespace, name=name),
        )
        return facet.Dataset(namespace=namespace, name=name, facets={"lifecycleStateChange": change})

    named = {name: None for url in (dropped.urls if dropped else ()) if (name := stored_object(url))}
    return OperatorLineage(inputs=[dataset(*name) for name in named])
