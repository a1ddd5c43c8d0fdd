"""Timing of attention beside its peers: cases, engines, ceilings, records, and what they say."""
