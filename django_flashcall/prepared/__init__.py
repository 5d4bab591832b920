"""Statements that the ORM compiles once and that are executed often. Private.

Otherwise most of the time of a start goes into building the same queries again. A `Prepared` query
is written with the ORM as usual, is compiled on its first use, and then only gets new values. One
query can read the rows of several tables, as the same columns (`part`). Several writes can be one
statement (`execute_all`).
"""
