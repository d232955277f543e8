"""What users write: pydantic v2 models, one module per kind, and the CRD generator over them."""
