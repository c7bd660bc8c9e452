"""Records of lineage and the rules about them: schemas, digests, code versions, checks, staleness. Pure Python."""
