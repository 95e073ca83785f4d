"""Do scores survive another way of running the same texts, and what is wrong where they do not.

In reading order: passes, faults, checks, doctor.
"""
