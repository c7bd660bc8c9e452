"""Whether what is recorded is true: column lineage by perturbation, reproduction, snapshots, integrity."""
