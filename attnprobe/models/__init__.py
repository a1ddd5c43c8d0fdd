"""Two real models whose attention can be exchanged, and the gate that judges what is put there.

gguf, safetensors, packages       files of weights, and the packages that they come in
byte_bpe, wordpiece               text to token numbers and back
smollm2, minilm                   the forward passes, in NumPy float32 but for attention
attend, caches, engine_attend     what a model asks of its attention, and who answers
texts, gate, checks               what is run, and how far it may be from float64 attention
"""
