"""Attention kernels with one small change each, and the test data that must refuse them."""
