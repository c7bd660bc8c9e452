"""Whether what is recorded holds: column lineage by perturbation, reproduction, snapshots, integrity."""
