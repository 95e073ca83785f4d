"""From scores to an answer.

In reading order: betting, puzzles, beginnings, saying, believing, asking, using, acting, knowledge, know, elicit.
"""
