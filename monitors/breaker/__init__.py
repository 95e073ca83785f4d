"""The circuit breaker over many responses.

In reading order: rule, entries, audit, breaker, journal, odds.
"""
