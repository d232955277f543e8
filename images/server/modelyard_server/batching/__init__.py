"""The micro-batcher: rows of many callers become batches for one model. It knows neither HTTP nor torch."""
