"""From scores to an answer.

In reading order: places, steering, orthogonal, receipt, knowledge.
"""
