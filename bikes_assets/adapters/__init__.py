"""The package of an earlier release, empty: `bikes_assets.renamed` says where its modules are."""
