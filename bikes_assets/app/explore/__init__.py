"""What the lineage page shows, as JSON-ready answers; it imports none of the heavy libraries."""
