"""The extended PSF: wings from bright stars, joined to the core."""
