"""Mean rentals and temperature of each hour of the day, computed by Spark and reported as OpenLineage's events.

```sh
python examples/spark_job/hourly_pattern.py data/lake/hourly_rentals data/hourly_pattern
```

It knows nothing of bikes_assets: it reads a Delta table by its path, and names it by OpenLineage's rules. That is all that
joins it to the lineage of the table. Where the events go is the client's own setting: `OPENLINEAGE_URL`, a file or another.
"""

from __future__ import annotations

import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from deltalake import DeltaTable
from openlineage.client.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    dataset_version_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    processing_engine_run,
    schema_dataset,
)
from openlineage.client.uuid import generate_new_uuid
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

PRODUCER = "https://bikes-assets.invalid/examples/spark_job"
JOB = Job("spark", "hourly_pattern", {"jobType": job_type_job.JobTypeJobFacet("BATCH", "SPARK", "JOB")})
GROUPED = ("workingday", "hr")
MEANS = {"rentals": "cnt", "temp": "temp"}
"""Column of the output to the column of which it is the mean."""


def hourly_pattern(rentals: DataFrame) -> DataFrame:
    """Return one row for each hour of the day, of working days and of others."""
    means = [sf.avg(column).alias(name) for name, column in MEANS.items()]
    return rentals.groupBy(*GROUPED).agg(*means, sf.count("*").alias("hours")).orderBy(*GROUPED)


def lineage(table: InputDataset) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    """Return which columns of the table each column of the pattern is computed from, and which decide about all of it."""

    def of(column: str, kind: str, subtype: str) -> column_lineage_dataset.InputField:
        how = column_lineage_dataset.Transformation(kind, subtype)
        return column_lineage_dataset.InputField(table.namespace, table.name, column, [how])

    passed_on = {name: [of(name, "DIRECT", "IDENTITY")] for name in GROUPED}
    computed = {name: [of(column, "DIRECT", "AGGREGATION")] for name, column in MEANS.items()}
    return column_lineage_dataset.ColumnLineageDatasetFacet(
        {name: column_lineage_dataset.Fields(fields) for name, fields in {**passed_on, **computed}.items()},
        [of(name, "INDIRECT", "GROUP_BY") for name in GROUPED],
    )


def main(source: Path, target: Path) -> None:
    """Compute the pattern of a Delta table's newest version, write it as Parquet, and report the run.

    Args:
        source: folder of the table `hourly_rentals`.
        target: folder of Parquet files, replaced.
    """
    client, run = OpenLineageClient(), Run(str(generate_new_uuid()))
    table = DeltaTable(str(source.absolute()))
    version = dataset_version_dataset.DatasetVersionDatasetFacet(str(table.version()))
    read = InputDataset("file", str(source.absolute()), facets={"version": version})
    written = OutputDataset("file", str(target.absolute()))

    def report(state: RunState) -> None:
        now = datetime.now(UTC).isoformat()
        client.emit(
            RunEvent(
                eventType=state, eventTime=now, run=run, job=JOB, producer=PRODUCER, inputs=[read], outputs=[written]
            )
        )

    report(RunState.START)
    try:
        spark = SparkSession.builder.appName(JOB.name).getOrCreate()
        run.facets["processing_engine"] = processing_engine_run.ProcessingEngineRunFacet(spark.version, "spark")
        # exactly the files of that version: the folder holds those of earlier ones, too
        pattern = hourly_pattern(spark.read.parquet(*table.file_uris()))
        pattern.write.parquet(str(target), mode="overwrite")
        fields = [schema_dataset.SchemaDatasetFacetFields(name, type=kind) for name, kind in pattern.dtypes]
        written.facets |= {"schema": schema_dataset.SchemaDatasetFacet(fields), "columnLineage": lineage(read)}
        rows = spark.read.parquet(str(target)).count()
        written.outputFacets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rows
        )
    except Exception as error:
        run.facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
            str(error), "PYTHON", traceback.format_exc()
        )
        report(RunState.FAIL)
        raise
    report(RunState.COMPLETE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
