"""attnprobe: tensor-core fragment layouts proved on hardware, and attention on CuPy and NumPy arrays."""

__version__ = "0.1.0"
