"""Every compiled function of psflib, and nothing else: arrays in, arrays out, no checks."""
