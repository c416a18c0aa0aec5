"""What a stage has read and made, for OpenLineage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


@dataclass(frozen=True)
class Data:
    """One thing that was read or made.

    Attributes:
        uri: A path, an address (``s3://bucket/key``), or an asset (``mxpipe://models/flights``).
        version: What tells two states of it apart: a digest, or a version's number.
        rows: How many rows it has, when known.

    Example:
        >>> Data("s3://lake/snapshots/2013-01", "ab12").name
        ('s3://lake', 'snapshots/2013-01')
        >>> Data("/data/snapshots/2013-01").name
        ('file', '/data/snapshots/2013-01')
    """

    uri: str
    version: str | None = None
    rows: int | None = None

    @property
    def name(self) -> tuple[str, str]:
        """OpenLineage's namespace and name."""
        parts = urlsplit(self.uri)
        if parts.scheme in ("", "file"):
            return "file", str(Path(parts.path).absolute())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", parts.path.lstrip("/")


@dataclass(frozen=True)
class Lineage:
    """Inputs and outputs of one stage.

    Example:
        >>> Lineage([Data("/data/rows", "ab12")], [Data("mxpipe://models/flights", "3")]).outputs[0].name
        ('mxpipe://models', 'flights')
    """

    inputs: list[Data] = field(default_factory=list)
    outputs: list[Data] = field(default_factory=list)

    def to_openlineage(self) -> OperatorLineage:
        """The same in OpenLineage's classes; its provider is installed where this is called."""
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import dataset_version_dataset, output_statistics_output_dataset

        def facets(data: Data) -> Mapping[str, Any]:
            return (
                {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=data.version)}
                if data.version
                else {}
            )

        def counts(data: Data) -> Mapping[str, Any]:
            if data.rows is None:
                return {}
            facet = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=data.rows)
            return {"outputStatistics": facet}

        return OperatorLineage(
            inputs=[InputDataset(*data.name, facets=dict(facets(data))) for data in self.inputs],
            outputs=[
                OutputDataset(*data.name, facets=dict(facets(data)), outputFacets=dict(counts(data)))
                for data in self.outputs
            ],
        )
