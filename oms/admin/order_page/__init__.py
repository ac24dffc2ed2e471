"""The page of one order: what happened, what now, what may be done.

`standing` is how it stands, `doing` what whoever looks may do, `history` what has happened, and
`signs` the words and signs of orders. Each is read on its own, as the page looks at its parts anew.
"""
