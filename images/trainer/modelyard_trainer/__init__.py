"""The built-in trainer: `python -m modelyard_trainer.prepare` and `python -m modelyard_trainer.train`.

`prepare` imports no torch. Both read the run config, write below the storage root only, and leave their
result in the runtime folder (see modelyard.contract).
"""
