"""Load on servers, and judgement of what they answer.

`processes.run_load` puts load on one server from processes of its own, `comparison.compare` on several by turns,
`background.ConstantLoad` on one while a test does something to it.
"""
