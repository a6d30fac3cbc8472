"""Lossless compression of AI model files."""

from weightzip._weightzip import WeightzipError, compress, decompress_into, frame_len, simd_level

__all__ = ["WeightzipError", "compress", "decompress_into", "frame_len", "simd_level"]
