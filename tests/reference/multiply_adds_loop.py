"""The multiply-adds of a convolution, counted one product at a time."""


def convolution_loop(
    channels_in: int, channels_out: int, groups: int, kernel: tuple[int, ...], outputs: tuple[int, ...]
) -> int:
    """Products of the forward pass: every output sees each tap of its filter, padding included."""
    products = 0
    for _ in range(channels_out):
        for _ in range(_product(outputs)):
            for _ in range(channels_in // groups):
                for _ in range(_product(kernel)):
                    products += 1
    return products


def _product(sizes: tuple[int, ...]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
