"""`DecorrelateALKernelTask`: decorrelation by the names of LSST's pipelines."""
