"""Why a reading came to nothing."""


class Refusal(Exception):
    """Nothing came of a reading; `final` where asking again will not help."""

    def __init__(self, why: str, *, final: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.final = final
