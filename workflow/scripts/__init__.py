"""One command a step: arguments in, one call of the library, a receipt out."""
