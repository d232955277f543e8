"""The build: from a model to a package, whose variants are made, measured and gated before one is served.

`python -m modelyard_build` reads the build config and leaves a BuildResult (see modelyard.contract.build). Variants are
made (`modelyard_build.variants`) and measured (`modelyard_build.measuring`) in processes of their own.
"""
