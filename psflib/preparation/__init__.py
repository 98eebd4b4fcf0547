"""An image as a user has it becomes an exposure without sky, with variance and mask."""
