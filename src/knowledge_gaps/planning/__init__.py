"""What the present study will cost, before it is run: `kgaps plan`.

Read `inventory` for what the study trains, `standing` for what is there already, `measure` and
`probe` for time and memory on this machine, `networks` for sizes, and `table` for what is printed.
Nothing here writes anything but its own cache, `.kgaps/plan`.
"""
