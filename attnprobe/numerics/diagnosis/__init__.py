"""A guess at the fault: what a kernel with each fault would give, and which explains the output.

evidence          some rows of one head in float64: scores, mask, exact answer, what was given
faults            the rows: name, and the answers that a kernel with the fault would give
  outputs, fragments, keys, softmaxes    their models, by where the fault sits
rank              the best explanation
pattern           where the refused elements stand
"""
