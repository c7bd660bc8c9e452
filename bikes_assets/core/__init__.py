"""What a record of lineage is, and the rules about it: schemas, digests, code versions, checks, staleness. Pure Python."""
