"""What this project has of OpenLineage: where the events of other tools are kept."""
