"""A kernel from candidates in spatial cells, as LSST and HOTPANTS fit it."""
