"""Statements that the ORM compiles once and that are executed often. Private.

Otherwise most of the time of a start goes into building the same queries again. A `Prepared` query
is written with the ORM as usual, is compiled on its first use, and then only gets new values. One
query can read the rows of several tables, as the same columns (`part`). Several writes can be one
statement (`execute_all`).
"""

from .queries import Parameter, Prepared, is_parameter
from .records import NOTHING, Record, Unknown, first_part, part
from .writes import PreparedInsert, PreparedUpdate, Write, execute_all

__all__ = [
    "NOTHING",
    "Parameter",
    "Prepared",
    "PreparedInsert",
    "PreparedUpdate",
    "Record",
    "Unknown",
    "Write",
    "execute_all",
    "first_part",
    "is_parameter",
    "part",
]
