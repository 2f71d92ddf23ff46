"""What the randomised tests share."""

from tally import given_seed, seed, tally

__all__ = ["given_seed", "seed", "tally"]
