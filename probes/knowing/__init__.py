"""From scores to an answer.

In reading order: knowledge, zoo/.
"""
