"""Measures imgpro beside its peers on the same pictures, in one run. Never asserts: it prints ratios."""
