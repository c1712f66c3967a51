"""The accelerator on a board: memory controller, host's link, clock and pins around the core."""
