"""The core ePSF over the field: one solution of regularised normal equations with all stars."""
