"""What the documentation of LSST's two tasks names: facts for `test_names`, no text of theirs."""

#: Method of ImagePsfMatchTask (the page) -> its arguments in order (the code of 2023).
MATCH_METHODS = {
    "matchMaskedImages": [
        "templateMaskedImage", "scienceMaskedImage", "candidateList", "templateFwhmPix",
        "scienceFwhmPix",
    ],
    "subtractMaskedImages": [
        "templateMaskedImage", "scienceMaskedImage", "candidateList", "templateFwhmPix",
        "scienceFwhmPix",
    ],
    "matchExposures": [
        "templateExposure", "scienceExposure", "templateFwhmPix", "scienceFwhmPix",
        "candidateList", "doWarping", "convolveTemplate",
    ],
    "subtractExposures": [
        "templateExposure", "scienceExposure", "templateFwhmPix", "scienceFwhmPix",
        "candidateList", "doWarping", "convolveTemplate",
    ],
}  # fmt: skip

#: Attribute of what they return -> the methods that fill it.
MATCH_RESULTS = {
    "matchedImage": list(MATCH_METHODS),
    "psfMatchingKernel": list(MATCH_METHODS),
    "backgroundModel": list(MATCH_METHODS),
    "kernelCellSet": list(MATCH_METHODS),
    "matchedExposure": ["matchExposures", "subtractExposures"],
    "warpedExposure": ["matchExposures", "subtractExposures"],
    "subtractedExposure": ["subtractExposures"],
    "subtractedMaskedImage": ["subtractMaskedImages"],
}

#: Field of the task's configuration -> default.
MATCH_FIELDS = {"autoPadPsfTo": 1.4, "doAutoPadPsf": True, "padPsfBy": 0, "kernel": "AL"}
MATCH_SUBTASKS = ["selectDetection", "selectMeasurement"]

#: Field of config.kernel.active that the page's description names -> default.
KERNEL_FIELDS = {
    "singleKernelClipping": True, "kernelSumClipping": True, "spatialKernelClipping": True,
    "nStarPerCell": 3, "candidateResidualMeanMax": 0.25, "candidateResidualStdMax": 1.5,
    "maxKsumSigma": 3.0,
}  # fmt: skip
KERNEL_PARTS = ["warpingConfig", "afwBackgroundConfig"]

#: Field that only the code names, of config.kernel.active; fields of both kernel models, of AL, DF.
MORE_KERNEL_FIELDS = {
    "both": [
        "useAfwBackground", "fitForBackground", "kernelBasisSet", "kernelSize", "scaleByFwhm",
        "kernelSizeFwhmScaling", "kernelSizeMin", "kernelSizeMax", "spatialModelType",
        "spatialKernelOrder", "spatialBgOrder", "sizeCellX", "sizeCellY", "maxSpatialIterations",
        "usePcaForSpatialKernel", "subtractMeanForPca", "numPrincipalComponents",
        "checkConditionNumber", "badMaskPlanes", "useCoreStats", "candidateCoreRadius",
        "maxConditionNumber", "conditionNumberType", "maxSpatialConditionNumber",
        "iterateSingleKernel", "constantVarianceWeighting", "calculateKernelUncertainty",
        "useBicForKernelBasis", "detectionConfig",
    ],
    "AL": [
        "alardNGauss", "alardDegGauss", "alardSigGauss", "alardGaussBeta", "alardMinSig",
        "alardDegGaussDeconv", "alardMinSigDeconv", "alardNGaussDeconv",
    ],
    "DF": [
        "useRegularization", "regularizationType", "centralRegularizationStencil",
        "forwardRegularizationOrders", "regularizationBorderPenalty", "lambdaType", "lambdaValue",
        "lambdaScaling", "lambdaStepType", "lambdaMin", "lambdaMax", "lambdaStep",
    ],
    "detectionConfig": [
        "detThreshold", "detThresholdType", "detOnTemplate", "badMaskPlanes", "fpNpixMin",
        "fpNpixMax", "fpGrowKernelScaling", "fpGrowPix", "scaleByFwhm",
    ],
}  # fmt: skip

DEBUG = [
    "display", "maskTransparency", "displayCandidates", "displayKernelBasis",
    "displayKernelMosaic", "plotKernelSpatialModel", "showBadCandidates", "displayTemplate",
    "displaySciIm", "displaySpatialCells", "displayDiffIm",
]  # fmt: skip

#: Method of DecorrelateALKernelTask -> its arguments in order; * before those that are open.
DECORRELATE_METHODS = {
    "calculateVariancePlane": ["vplane1", "vplane2", "varMean1", "varMean2", "c1ft", "c2ft"],
    "computeCommonShape": ["*shapes"],
    "computeCorrectedDiffimPsf": ["corrft", "psfOld"],
    "computeCorrectedImage": ["corrft", "imgOld"],
    "computeDiffimCorrection": ["kappa", "svar", "tvar"],
    "computeScoreCorrection": ["kappa", "svar", "tvar", "preConvArr"],
    "computeVarianceMean": ["exposure"],
    "estimateVariancePlane": ["vplane1", "vplane2", "c1ft", "c2ft"],
    "padCenterOriginArray": ["A", "newShape", "useInverse"],
    "run": [
        "scienceExposure", "templateExposure", "subtractedExposure", "psfMatchingKernel",
        "preConvKernel", "xcen", "ycen", "svar", "tvar", "templateMatched", "preConvMode",
        "**kwargs",
    ],
}  # fmt: skip
#: Defaults of its arguments.
RUN_DEFAULTS = {
    "preConvKernel": None, "xcen": None, "ycen": None, "svar": None, "tvar": None,
    "templateMatched": True, "preConvMode": False,
}  # fmt: skip
DECORRELATE_RESULTS = {
    "computeDiffimCorrection": ["corrft", "cnft", "crft"],
    "computeScoreCorrection": ["corrft", "cnft", "crft"],
    "run": ["correctedExposure"],
}
DECORRELATE_ATTRIBUTES = ["freqSpaceShape"]
DECORRELATE_FIELDS = {"completeVarPlanePropagation": False}  # ignoreMaskPlanes: names of planes
MASK_PLANES = ["INTRP", "EDGE", "DETECTED", "SAT", "CR", "BAD", "NO_DATA"]

#: Method of every task -> its arguments.
TASK_METHODS = {
    "emptyMetadata": [],
    "getFullMetadata": [],
    "getFullName": [],
    "getName": [],
    "getTaskDict": [],
    "makeField": ["doc"],
    "makeSubtask": ["name", "**keyArgs"],
    "timer": ["name", "logLevel"],
}


def page_names():
    """(task, kind, name) of every name of the two pages, each once."""
    match, decorrelate = "ImagePsfMatchTask", "DecorrelateALKernelTask"
    yield from ((match, "method", name) for name in MATCH_METHODS)
    yield from ((match, "field", name) for name in MATCH_FIELDS)
    yield from ((match, "field", name) for name in MATCH_SUBTASKS)
    yield from ((match, "field of kernel.active", name) for name in KERNEL_FIELDS)
    yield match, "field of kernel.active", "warpingConfig"
    yield from ((match, "debug variable", name) for name in DEBUG)
    yield match, "attribute", "config"
    for methods in (DECORRELATE_METHODS, TASK_METHODS):
        for name, arguments in methods.items():
            yield decorrelate, "method", name
            yield from (
                (decorrelate, f"argument of {name}", one) for one in arguments if one != "**kwargs"
            )
    yield decorrelate, "argument of run", "**kwargs"
    for name, attributes in DECORRELATE_RESULTS.items():
        yield from ((decorrelate, f"result of {name}", one) for one in attributes)
    yield from ((decorrelate, "attribute", name) for name in DECORRELATE_ATTRIBUTES)
