"""What can be known: facts, their statements, and the contexts in which they are in use.

In reading order: templates, rows, twins, facts, statements, wordings, contexts.
"""
