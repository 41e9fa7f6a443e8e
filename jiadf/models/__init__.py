"""The network of the paper, equation by equation.

``encoders`` (1), ``mmfa`` (8) to (11), ``adf`` (5) and (6), ``network`` (2) and (3) and the whole,
``losses`` (4) and (7). ``baselines`` are the methods that the paper compares with.
"""
