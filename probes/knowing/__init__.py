"""From scores to an answer.

In reading order: betting, knowledge.
"""
