"""The engine that the options of a command name."""

from typing import TYPE_CHECKING

from microlens.errors import InputError

if TYPE_CHECKING:
    from microlens.engines.ray_cluster import RayEngine


def choose_engine(
    name: str, ray_address: str | None, workers: int | None = None, option: str = "--workers"
) -> "RayEngine | None":
    """The engine ``ray``, or None for ``local``; ``option`` gives the number of ``workers`` of the latter.

    Raises:
        InputError: an option belongs to the other engine, or Ray is not installed.
    """
    if name == "ray":
        if workers is not None:
            raise InputError(f"{option} belongs to --engine local; a Ray job uses all CPUs of the cluster.")
        # Not above, because it takes longer to import than the rest.
        from microlens.engines.ray_cluster import RayEngine

        return RayEngine(ray_address)
    if ray_address is not None:
        raise InputError("--ray-address belongs to --engine ray; add it, or leave the address out.")
    return None
