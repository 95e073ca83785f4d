"""Models whose knowledge we planted.

In reading order: world, texts, training, reaching, truth, planted, models.
"""
