"""The nouns that all stages speak of: exposure and difference, and what is done to any image."""
