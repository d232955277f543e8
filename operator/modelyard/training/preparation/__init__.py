"""The prepare stage: the model fetched, the data prepared."""
