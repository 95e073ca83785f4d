"""Models whose knowledge we planted.

In reading order: world, walks, texts, training, reaching, truth, planted, workshop, recipes, models, confusion,
examining.
"""
