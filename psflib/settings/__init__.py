"""The models of the sections of config.yaml, a file a stage; they import pydantic alone."""
