"""A program that rebuilds partitions, one after the other, by the definitions of whatever tree is on its path.

It runs in a separate process, on a tree that may be older than this file: so it imports nothing of this package, and
uses no more of that tree than Dagster does. It reads one JSON object from its standard input,

    {"definitions": "bikes_assets.definitions:defs", "remembered": {name: text}, "steps":
    [{"asset": ..., "partition": ..., "config": {...}}, ...]}

where `remembered` is what Dagster's instance remembers for the code, and writes one line of JSON for each step:
{"version": table version that it published} or {"failed": why}. It ends after the first step that fails. The locations
of tables and source are set in its environment.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any


def main() -> None:
    """Rebuild the requested partitions."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # only answers go to the original standard output
    asked = json.load(sys.stdin)
    try:
        make = _maker(asked["definitions"], asked["remembered"])
        for step in asked["steps"]:
            print(json.dumps(make(step)), file=answers, flush=True)
    except Exception as error:  # noqa: BLE001 - the caller reports it
        print(json.dumps({"failed": "".join(traceback.format_exception_only(error)).strip()}), file=answers, flush=True)
        sys.exit(1)


def _maker(definitions: str, remembered: dict[str, str]) -> Any:
    """Return a function that rebuilds one partition by some definitions, without MLflow, on an ephemeral instance."""
    import dagster as dg

    module, _, name = definitions.partition(":")
    found = getattr(importlib.import_module(module), name)
    found: Any = found() if callable(found) else found
    job = dg.Definitions(
        assets=found.assets,
        asset_checks=found.asset_checks,
        resources={**found.resources, "mlflow": dg.ResourceDefinition.none_resource()},
        executor=dg.in_process_executor,
    ).resolve_implicit_global_asset_job_def()
    instance = dg.DagsterInstance.ephemeral()
    if remembered:
        instance.daemon_cursor_storage.set_cursor_values(remembered)

    def make(step: dict[str, Any]) -> dict[str, Any]:
        result = job.execute_in_process(
            instance=instance,
            partition_key=step["partition"],
            asset_selection=[dg.AssetKey.from_user_string(step["asset"])],
            run_config={
                "ops": {step["asset"].replace("/", "__"): {"config": step["config"]}} if step["config"] else {},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            raise_on_error=False,
        )
        for event in result.get_asset_materialization_events():
            record: Any = event.materialization.metadata["lineage"].value
            return {"version": record["output"]["version"]}
        errors = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
        innermost = errors[0] if errors else None
        while innermost and innermost.cause:
            innermost = innermost.cause
        raise RuntimeError(innermost.message.strip() if innermost else "it had nothing to work on")

    return make


if __name__ == "__main__":
    main()
