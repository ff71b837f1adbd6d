"""How the rows of a file are to be read, where its user says so."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_SPELT = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


@dataclass(frozen=True, slots=True)
class RowForm:
    """What is left empty is found out from the file."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """What a benchmark calls a column, to what the file calls it."""
    encoding: str = ""
    """As Python knows it: `utf-8`, `gb18030`, `shift_jis`, `latin-1`, ..."""
    delimiter: str = ""
    """One character between the fields of a CSV or TSV file."""

    @classmethod
    def said(cls, columns: Mapping[str, str], encoding: str, delimiter: str) -> "RowForm":
        """As people write it: `tab` is a tab."""
        return cls(columns, encoding, _SPELT.get(delimiter.lower(), delimiter))

    def __bool__(self) -> bool:
        return bool(self.columns or self.encoding or self.delimiter)
