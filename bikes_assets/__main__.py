"""`python -m bikes_assets`: the command `bikes` of the project in which it is called."""

from bikes_assets.cli import main

main(prog_name="bikes")
