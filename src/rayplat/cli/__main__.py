"""`python -m rayplat.cli`: the same as `rayplat`, for an interpreter whose scripts are not on the path.

Knows the entry point alone.
"""

from rayplat.cli.app import main

main()
