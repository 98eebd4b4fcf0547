"""Candidates in the formats of other tools: regions, VOTable, Parquet, alerts."""
