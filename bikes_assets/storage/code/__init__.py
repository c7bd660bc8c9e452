"""The code and environment that something was materialized with: git commit, working tree, libraries."""
