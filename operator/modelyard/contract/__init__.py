"""What the operator tells a pod and what a pod tells back. Imported by the operator and by the images.

`codes` and `layout` use the standard library only, and only what Python 3.8 has: the agent carries them into
users' own images.
"""
